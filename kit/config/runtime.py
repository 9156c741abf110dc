"""`runtime`: what the computation runs on. None of it but `precision` trains a finished fold anew."""

from typing import Literal

from pydantic import Field

from kit.config.base import Settings


class RuntimeSettings(Settings):
    """`runtime`: backend, devices, precision and compiler. `auto` depends on the machine (`kit doctor` shows it)."""

    # auto: $KERAS_BACKEND; without it jax on Kaggle's TPUs and where TensorFlow is not installed, tensorflow elsewhere.
    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    # How many devices share each batch; null: all GPUs or TPU cores, or one CPU. More than one CPU are virtual ones.
    devices: int | None = Field(None, ge=1)
    # auto: mixed_bfloat16 on TPUs and GPUs from compute capability 8.0, mixed_float16 from 7.0, float32 elsewhere.
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    xla: Literal["auto", "on", "off"] = "auto"  # auto: as Keras decides
    # Updates run between two looks at the loss, at most; null: 16. Fewer notice a NaN earlier, more hide Python's time.
    steps_per_execution: int | None = Field(None, ge=1)
    # Where to log every epoch besides the terminal; each is a package of its own to install.
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
