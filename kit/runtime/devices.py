"""Keras backend, devices, precision, compiler and seeds: decided here, before Keras is imported anywhere."""

import os
import platform
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kit.config import RuntimeSettings
from kit.errors import ConfigError
from kit.runtime.host import host_name, memory_gib

_BACKENDS = ("tensorflow", "jax")
_PACKAGES = ("kit", "keras", "tensorflow", "jax", "numpy", "pandas", "scikit-learn", "opencv-python-headless", "pillow")


@dataclass(frozen=True)
class Device:
    """What training runs on; `precision` is a Keras dtype policy, `jit_compile` what Keras's compile takes."""

    backend: str
    kind: str  # CPU, GPU or TPU
    names: tuple[str, ...]
    precision: str
    jit_compile: bool | str


def set_up(settings: RuntimeSettings) -> Device:
    """Choose the backend, tame TensorFlow's use of GPUs, set Keras's precision; safe to call again.

    Raises ConfigError for a backend the kit does not run on, and when Keras was imported with another one before.
    """
    backend = _backend(settings)
    os.environ["KERAS_BACKEND"] = backend
    if find_spec("tensorflow"):
        import_tensorflow()  # before Keras does it, loudly
    import keras

    if keras.backend.backend() != backend:
        raise ConfigError(
            f"Keras was imported with the {keras.backend.backend()} backend before kit could choose {backend}: "
            f"set KERAS_BACKEND={backend} first, or restart the session"
        )
    kind, names, capability = _tensorflow_devices() if backend == "tensorflow" else _jax_devices()
    precision = settings.precision if settings.precision != "auto" else _best_precision(kind, capability)
    keras.config.set_dtype_policy(precision)
    jit_compile: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
    return Device(backend, kind, names, precision, jit_compile[settings.xla])


def import_tensorflow() -> Any:
    """The TensorFlow module, imported without its start-up chatter (2.21 writes it whatever it is told)."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    # Without a GPU even errors are noise: that there is no GPU is one of them. Python exceptions are not affected.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if Path("/dev/nvidia0").exists() else "3")
    stderr = os.dup(2)
    try:
        with tempfile.TemporaryFile() as swallowed:
            os.dup2(swallowed.fileno(), 2)
            import tensorflow as tf
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    tf.get_logger().setLevel("ERROR")  # its advice on retracing: a fold is a model of its own, traced anew
    return tf


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and Keras (and so every layer that is built next)."""
    import keras

    keras.utils.set_random_seed(seed % 2**32)


def environment(device: Device | None = None) -> dict[str, Any]:
    """Versions and machine, for `environment.json` and `kit doctor`."""
    return {
        "host": host_name(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory_gib(), 1),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "device": asdict(device) if device else None,
    }


def _backend(settings: RuntimeSettings) -> str:
    chosen = settings.backend if settings.backend != "auto" else os.environ.get("KERAS_BACKEND") or "tensorflow"
    if chosen not in _BACKENDS:
        raise ConfigError(f"KERAS_BACKEND={chosen}: kit runs on {' or '.join(_BACKENDS)}")
    if chosen == "jax" and not find_spec("jax"):
        raise ConfigError("the jax backend needs JAX: pip install 'kit[jax]'")
    if chosen == "tensorflow" and not find_spec("tensorflow"):
        raise ConfigError("the tensorflow backend needs TensorFlow: pip install tensorflow, or set KERAS_BACKEND=jax")
    return chosen


def _tensorflow_devices() -> tuple[str, tuple[str, ...], float]:
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # Operations that run beside each other split their sums by how busy the threads are, and equal runs then differ
        # in the last bits. One after the other, each on all cores, they do not, and training is as fast.
        with suppress(RuntimeError):  # TensorFlow is in use already: too late to choose
            tf.config.threading.set_inter_op_parallelism_threads(1)
        return "CPU", (platform.processor() or platform.machine(),), 0.0
    for gpu in gpus:
        # asked first, because setting it once the GPU is in use is an error
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    major, minor = details[0].get("compute_capability", (0, 0))
    return "GPU", tuple(d.get("device_name", "GPU") for d in details), major + minor / 10


def _jax_devices() -> tuple[str, tuple[str, ...], float]:
    import jax

    if find_spec("tensorflow"):
        import_tensorflow().config.set_visible_devices([], "GPU")  # tf.data is the host's; JAX needs the GPU's memory
    devices = jax.devices()
    kind = {"gpu": "GPU", "tpu": "TPU"}.get(devices[0].platform, "CPU")
    capability = float(getattr(devices[0], "compute_capability", 0) or 0)
    return kind, tuple(d.device_kind for d in devices), capability


def _best_precision(kind: str, capability: float) -> str:
    """bfloat16 where the hardware has it, float16 on GPUs with tensor cores (from 7.0) only, float32 elsewhere."""
    if kind == "TPU" or (kind == "GPU" and capability >= 8.0):
        return "mixed_bfloat16"
    if kind == "GPU" and capability >= 7.0:
        return "mixed_float16"
    return "float32"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
