"""PyTorch's weight files in their old format (`torch.save` up to 1.5), read without PyTorch.

Such a file is a series of pickles, which could run anything when they are loaded. Here they may name an ordered
dictionary, the rebuilding of a tensor, and storages of numbers; a file that names anything else is refused. The format
is that of `torch.serialization._legacy_load`.
"""

import io
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kit.errors import ConfigError

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # how such a file begins
_PROTOCOL = 1001


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in numbers


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dictionary, by their names in PyTorch.

    Raises ConfigError for a file of another format, one that is damaged, and one that holds more than arrays.
    """
    content = path.read_bytes()
    if content.startswith(b"PK"):
        raise _refused(path, "it is in the zip format that torch.save writes since 1.6")
    if not content.startswith(MAGIC):
        raise _refused(path, "it does not begin as one")
    try:
        return _arrays(content)
    except Exception as error:  # a damaged pickle can raise any
        raise _refused(path, f"{error}" or type(error).__name__) from error


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    _, protocol, system, state, keys = (_Unpickler(file).load() for _ in range(5))
    if protocol != _PROTOCOL or system["little_endian"] is not True:
        raise ValueError(f"protocol {protocol} of {system}")
    if not all(isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in state.items()):
        raise ValueError("it is no dictionary of names and tensors")
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in state.values()}
    storages = {key: _next_storage(file, content, dtypes[key]) for key in keys}
    return {name: _array(storages[tensor.storage.key], tensor) for name, tensor in state.items()}


def _next_storage(file: io.BytesIO, content: bytes, dtype: str) -> np.ndarray:
    """The numbers of the next storage: how many there are, in eight bytes, then themselves."""
    count = file.read(8)
    if len(count) < 8:
        raise ValueError("it is cut short")
    storage = np.frombuffer(content, dtype, int.from_bytes(count, "little"), file.tell())
    file.seek(storage.nbytes, io.SEEK_CUR)
    return storage


def _array(storage: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """The part of a storage that a tensor shows; raises ValueError where it would leave the storage."""
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, storage.dtype)
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of {tensor.shape} ends at {last}, and its storage at {len(storage)}")
    strides = [storage.itemsize * stride for stride in tensor.strides]
    return np.ndarray(tensor.shape, storage.dtype, storage, storage.itemsize * tensor.offset, strides)


def _rebuild(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    """In place of `torch._utils._rebuild_tensor_v2`."""
    return _Tensor(storage, offset, shape, strides)


_NAMES = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch.FloatStorage": "<f4",
    "torch.LongStorage": "<i8",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which weights do not need")
        return _NAMES[f"{module}.{name}"]

    def persistent_load(self, address: Any) -> _Storage:
        _, dtype, key, *_ = address
        return _Storage(key, dtype)


def _refused(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"{path} is not a file of weights in PyTorch's old format: {' '.join(reason.split())}")
