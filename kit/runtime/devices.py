"""Keras backend, devices, precision, compiler and seeds: decided here, before Keras is imported anywhere."""

import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from kit.config import RuntimeSettings
from kit.errors import ConfigError
from kit.runtime.session import memory_gib, session_kind

Kind = Literal["CPU", "GPU", "TPU"]
log = logging.getLogger(__name__)
_BACKENDS = ("tensorflow", "jax")
_PACKAGES = ("kit", "keras", "tensorflow", "jax", "numpy", "pandas", "scikit-learn", "opencv-python-headless", "pillow")

# Modules named differently from their packages. Another package may bring them too (such as opencv-python).
_MODULES = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "protobuf": "google.protobuf",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
# Device files of Linux: of NVIDIA's GPUs, in Windows too, and AMD's; of TPUs.
_ACCELERATORS = ("nvidia[0-9]*", "dxg", "kfd", "accel*", "vfio/[0-9]*")
_CPU_BATCH = 32  # images
_STEPS_PER_EXECUTION = 16  # hides Python's time between steps; with more, a loss of NaN would be seen later


@dataclass(frozen=True)
class Device:
    """What training runs on; `precision` is a Keras dtype policy, `jit_compile` what Keras's compile takes.

    `names` are the devices of this host that share each batch. A host is one of several machines that train together:
    this process is `host` of `hosts`.
    """

    backend: str
    kind: Kind
    names: tuple[str, ...]
    precision: str
    jit_compile: bool | str
    steps_per_execution: int = 1
    host: int = 0
    hosts: int = 1

    @property
    def count(self) -> int:
        """How many devices share each batch, over all hosts."""
        return len(self.names) * self.hosts

    def eval_batch(self, most: int) -> int:
        """How many images are predicted at a time, `most` at most (unless the devices are more), evenly on all devices.

        On a CPU larger batches are no faster (scripts/bench/batches.py), and the last one, which is filled up, costs
        more.
        """
        size = min(most, _CPU_BATCH) if self.kind == "CPU" else most
        return -(-size // self.count) * self.count

    @property
    def mirrored(self) -> bool:
        """Whether TensorFlow keeps a copy of the model on each device."""
        return self.backend == "tensorflow" and self.count > 1

    def scope(self) -> AbstractContextManager[Any]:
        """The context in which a model that all devices train has to be built and compiled."""
        return _strategy(len(self.names)).scope() if self.mirrored else nullcontext()


def set_up(settings: RuntimeSettings) -> Device:
    """Choose the backend, let TensorFlow take GPU memory as needed, set Keras's precision; safe to call again.

    Raises ConfigError for a backend that kit does not support, and when Keras was already imported with another one.
    """
    backend = choose_backend(settings)
    if settings.backend == "auto" and "KERAS_BACKEND" not in os.environ and not has_tensorflow():
        log.info("TensorFlow is not installed: running on JAX")
    os.environ["KERAS_BACKEND"] = backend
    if has_tensorflow():
        import_tensorflow()  # before Keras does it, loudly
    import keras

    if keras.backend.backend() != backend:
        raise ConfigError(
            f"Keras was imported with the {keras.backend.backend()} backend before kit could choose {backend}: "
            f"set KERAS_BACKEND={backend} first, or restart the session"
        )
    find_devices = _tensorflow_devices if backend == "tensorflow" else _jax_devices
    kind, names, capability = find_devices(settings.devices)
    precision = settings.precision if settings.precision != "auto" else _best_precision(kind, capability)
    keras.config.set_dtype_policy(precision)
    jit_compile: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}
    host, hosts = _hosts() if backend == "jax" else (0, 1)
    steps = settings.steps_per_execution or _STEPS_PER_EXECUTION
    return Device(backend, kind, names, precision, jit_compile[settings.xla], steps, host, hosts)


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed. JAX does without it."""
    return "tensorflow" in sys.modules or _is_installed("tensorflow")


def import_tensorflow() -> Any:
    """The TensorFlow module, imported without its start-up messages (2.21 writes some at any log level).

    Raises ConfigError where it is not installed.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    if not has_tensorflow():
        raise ConfigError("this needs TensorFlow, which is not installed: pip install tensorflow")
    # Without a GPU even errors are noise: the missing GPU is one of them. Python exceptions are not affected.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # JAX, when imported before, sets it to 1
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2" if Path("/dev/nvidia0").exists() else "3"
    with muted():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")  # no advice on retracing: each fold has a model of its own
    return tf


@contextmanager
def muted() -> Iterator[None]:
    """In the block nothing reaches standard error, not even from C++, whose chatter knows no other way."""
    stderr = os.dup(2)
    try:
        with tempfile.TemporaryFile() as swallowed:
            os.dup2(swallowed.fileno(), 2)
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and Keras (and so every layer that is built next)."""
    import keras

    keras.utils.set_random_seed(seed % 2**32)


def synchronize_batch_norm(model: Any, device: Device) -> None:
    """Make mirrored copies share their batch statistics; else each has its own, and only the first one's are saved."""
    if device.mirrored:
        from kit.runtime import keras_private

        for layer in keras_private.batch_norms(model):
            layer.synchronized = True


@contextmanager
def alone(device: Device) -> Iterator[None]:
    """In the block nothing is distributed over hosts: each of them computes everything by itself."""
    if device.hosts == 1:
        yield
        return
    import keras

    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def on_all_hosts(device: Device, number: int) -> list[int]:
    """The number that each host calls this with, in the hosts' order; all of them have to call it."""
    if device.hosts == 1:
        return [number]
    import numpy as np
    from jax.experimental import multihost_utils

    return [int(n) for n in np.ravel(multihost_utils.process_allgather(np.int32(number)))]


def environment(device: Device | None = None) -> dict[str, Any]:
    """Versions and machine, for `environment.json` and `kit doctor`."""
    return {
        "host": session_kind(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory_gib(), 1),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "device": asdict(device) if device else None,
    }


def missing_packages(backend: str = "tensorflow") -> list[str]:
    """Packages that kit needs and that are not installed; another distribution of the same module will do.

    On JAX, TensorFlow is not needed.
    """
    missing = []
    for text in metadata.requires("kit") or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            module = _MODULES.get(requirement.name, requirement.name.replace("-", "_"))
            if not _is_installed(module) and not (backend == "jax" and module == "tensorflow"):
                missing.append(str(requirement.name))
    return missing


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def kind_of(settings: RuntimeSettings) -> Kind:
    """What training would run on; the backend is loaded only where the machine has something other than CPUs."""
    if sys.platform == "linux" and not any(next(Path("/dev").glob(name), None) for name in _ACCELERATORS):
        return "CPU"
    return set_up(settings).kind


def choose_backend(settings: RuntimeSettings) -> str:
    """Keras's backend: raises ConfigError for one that kit does not support, or that is not installed."""
    # Kaggle's TPU image sets ISTPUVM, and the TensorFlow in it sees no TPU.
    default = "jax" if find_spec("jax") and (os.environ.get("ISTPUVM") or not has_tensorflow()) else "tensorflow"
    chosen = settings.backend if settings.backend != "auto" else os.environ.get("KERAS_BACKEND") or default
    if chosen not in _BACKENDS:
        raise ConfigError(f"KERAS_BACKEND={chosen}: kit runs on {' or '.join(_BACKENDS)}")
    if chosen == "jax" and not find_spec("jax"):
        raise ConfigError("the jax backend needs JAX: pip install jax")
    if chosen == "tensorflow" and not has_tensorflow():
        raise ConfigError("the tensorflow backend needs TensorFlow: pip install tensorflow, or set KERAS_BACKEND=jax")
    return chosen


def _tensorflow_devices(requested: int | None) -> tuple[Kind, tuple[str, ...], float]:
    tf = import_tensorflow()
    if len(json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {}).get("worker", ())) > 1:
        raise ConfigError(
            "Keras 3 cannot fit a model under TensorFlow's multi-worker strategy (TF_CONFIG names several workers): on "
            "several hosts use the jax backend and KERAS_DISTRIBUTION_* (keras.distribution.initialize)"
        )
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        # Operations that run in parallel split their sums by how busy the threads are, so equal runs would differ in
        # the last bits. One after the other, each on all cores, they do not, and training is as fast.
        with suppress(RuntimeError):  # too late: TensorFlow is in use already
            tf.config.threading.set_inter_op_parallelism_threads(1)
        return "CPU", _take([_processor()] * _virtual_cpus(tf, requested or 1), requested or 1), 0.0
    for gpu in gpus:
        # read first, because setting it once the GPU is in use is an error
        if not tf.config.experimental.get_memory_growth(gpu):
            tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    major, minor = details[0].get("compute_capability", (0, 0))
    return "GPU", _take([d.get("device_name", "GPU") for d in details], requested), major + minor / 10


def _virtual_cpus(tf: Any, requested: int) -> int:
    """Split the CPU into that many devices; returns how many there are, as TensorFlow in use cannot be changed."""
    if requested == 1:
        return 1
    try:
        configuration = [tf.config.LogicalDeviceConfiguration()] * requested
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], configuration)
    except RuntimeError:
        return len(tf.config.list_logical_devices("CPU"))
    return requested


@cache  # a second one in one process fails in its first collective operation
def _strategy(count: int) -> Any:
    tf = import_tensorflow()
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    # NCCL, the default, works on GPUs only
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy([f"{kind}:{n}" for n in range(count)], cross_device_ops=reduction)


def _jax_devices(requested: int | None) -> tuple[Kind, tuple[str, ...], float]:
    import jax
    import keras

    if has_tensorflow():
        import_tensorflow().config.set_visible_devices([], "GPU")  # tf.data runs on the CPU; JAX needs the GPU's memory
    if requested and requested > 1:
        with suppress(RuntimeError):  # virtual CPUs; too late when JAX is in use already
            jax.config.update("jax_num_cpu_devices", requested)
    if os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES") and not jax.distributed.is_initialized():
        keras.distribution.initialize()
    devices = jax.local_devices()
    kinds: dict[str, Kind] = {"gpu": "GPU", "tpu": "TPU"}
    kind = kinds.get(devices[0].platform, "CPU")
    capability = float(getattr(devices[0], "compute_capability", 0) or 0)
    names = _take([d.device_kind for d in devices], requested if kind != "CPU" else requested or 1)
    if len(names) * jax.process_count() > 1 and keras.distribution.distribution() is None:
        used = [f"{d.platform}:{d.id}" for d in jax.devices()] if jax.process_count() > 1 else None
        used = used or [f"{d.platform}:{d.id}" for d in devices[: len(names)]]
        # no sharding by Keras: each host reads its own part of every batch
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=used, auto_shard_dataset=False))
    return kind, names, capability


def _hosts() -> tuple[int, int]:
    import jax

    return jax.process_index(), jax.process_count()


def _take(names: list[str], requested: int | None) -> tuple[str, ...]:
    if (requested or 1) > len(names):
        raise ConfigError(f"runtime.devices = {requested}, but there are {len(names)}")
    return tuple(names[:requested])


def _processor() -> str:
    return platform.processor() or platform.machine()


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
