"""Files in PyTorch's old format, written here without it: what is read of them, and what is refused."""

import io
import os
import pickle
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kit.errors import ConfigError
from kit.models.torch_file import read_torch_file


class Storage:
    """Numbers that a pickle refers to, and the file holds after the pickles."""

    def __init__(self, kind, values):
        self.kind, self.values = kind, values


class Tensor:
    """What PyTorch pickles of a tensor."""

    def __init__(self, storage, offset, shape, strides):
        self.arguments = (storage, offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def __init__(self, file, storages):
        super().__init__(file, 2)
        self.storages = storages

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[str(id(value))] = value
        return "storage", value.kind, str(id(value)), "cpu", value.values.size, None


@pytest.fixture(scope="module")
def torch():
    """Modules with PyTorch's names for the pickles to name; reading needs none of them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = types.FunctionType((lambda: None).__code__, {}, "_rebuild_tensor_v2")
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", torch)
        patch.setitem(sys.modules, "torch._utils", utils)
        yield torch


def file_of(state, protocol=1001, system=None):
    """The bytes that `torch.save(state, ..., _use_new_zipfile_serialization=False)` writes."""
    file, storages = io.BytesIO(), {}
    for value in (0x1950A86A20F9469CFC6C, protocol, system or {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(value, file, 2)
    Pickler(file, storages).dump(state)
    pickle.dump(sorted(storages), file, 2)
    for key in sorted(storages):
        file.write(storages[key].values.size.to_bytes(8, "little") + storages[key].values.tobytes())
    return file.getvalue()


def tensor(torch, array):
    kind = torch.LongStorage if array.dtype == np.int64 else torch.FloatStorage
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor(Storage(kind, array.ravel("K")), 0, array.shape, strides)


SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)
FLOATS = arrays.arrays(np.float32, SHAPES, elements=st.floats(-4, 4, width=32))
NUMBERS = FLOATS | arrays.arrays(np.int64, SHAPES, elements=st.integers(-9, 9))


@given(state=st.dictionaries(st.text(max_size=9), NUMBERS, max_size=4), turned=st.booleans())
def test_arrays_are_what_was_saved(torch, tmp_path_factory, state, turned):
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    state = {name: array.T if turned else array for name, array in state.items()}
    path.write_bytes(file_of(OrderedDict((name, tensor(torch, array)) for name, array in state.items())))
    read = read_torch_file(path)
    assert list(read) == list(state)
    assert all(np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in state.items())


def test_tensors_that_share_a_storage(torch, tmp_path):
    storage = Storage(torch.FloatStorage, np.arange(6, dtype=np.float32))
    state = {"all": Tensor(storage, 0, (2, 3), (3, 1)), "turned": Tensor(storage, 1, (2, 2), (1, 3))}
    (tmp_path / "w.pth").write_bytes(file_of(OrderedDict(state)))
    read = read_torch_file(tmp_path / "w.pth")
    assert read["all"].tolist() == [[0, 1, 2], [3, 4, 5]] and read["turned"].tolist() == [[1, 4], [2, 5]]


@given(lost=st.integers(1, 600))
def test_a_file_that_was_cut_short_is_refused(torch, tmp_path_factory, lost):
    content = file_of(OrderedDict(a=tensor(torch, np.ones((3, 4), np.float32)), b=tensor(torch, np.int64([7]))))
    path = tmp_path_factory.mktemp("weights") / "w.pth"
    path.write_bytes(content[:-lost])
    with pytest.raises(ConfigError, match=r"w\.pth is not a file of weights in PyTorch's old format: [^\n]+$"):
        read_torch_file(path)


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def storage(torch, kind="FloatStorage", size=4):
    return Storage(getattr(torch, kind), np.zeros(size, np.float32))


REFUSED = {
    "another class": (lambda t: {"x": storage(t, "HalfStorage")}, r"it names torch\.HalfStorage"),
    "beyond the end": (
        lambda t: OrderedDict(x=Tensor(storage(t), 0, (2, 3), (3, 1))),
        "at 5, and its storage at 4",
    ),
    "before the start": (
        lambda t: OrderedDict(x=Tensor(storage(t), -1, (2,), (1,))),
        "at 0, and its storage at 4",
    ),
    "in an empty storage": (lambda t: OrderedDict(x=Tensor(storage(t, size=0), 0, (2,), (1,))), "its storage at 0"),
    "backwards": (lambda t: OrderedDict(x=Tensor(storage(t), 3, (2,), (-1,))), "a tensor of "),
    "no tensors": (lambda t: OrderedDict(x=1), "no dictionary of names and tensors"),
    "no dictionary": (lambda t: [1], "'list' object has no attribute"),
    "a network": (lambda t: types.SimpleNamespace(x=1), r"it names types\.SimpleNamespace"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_but_arrays_is_refused(torch, tmp_path, case):
    state, message = REFUSED[case]
    (tmp_path / "w.pth").write_bytes(file_of(state(torch)))
    with pytest.raises(ConfigError, match=rf"w\.pth is not a file of weights .*({message})"):
        read_torch_file(tmp_path / "w.pth")


@pytest.mark.parametrize("place", ["state", "system", "protocol"])
def test_a_file_that_would_run_a_command_runs_none(torch, tmp_path, place):
    harm = Harm(tmp_path / "ran")
    content = file_of(**{"state": OrderedDict(), place: {"little_endian": harm} if place == "system" else harm})
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=r"it names (posix|nt)\.system, which weights do not need"):
        read_torch_file(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04...", r"the zip format that torch\.save writes since 1\.6"),
        (b"", "does not begin as one"),
        (b"\x89HDF\r\n\x1a\n", "does not begin as one"),
    ],
)
def test_other_formats(tmp_path, content, message):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_torch_file(tmp_path / "w.pth")


@pytest.mark.parametrize(("protocol", "little"), [(1002, True), (1001, False)])
def test_other_versions_and_machines(torch, tmp_path, protocol, little):
    (tmp_path / "w.pth").write_bytes(file_of(OrderedDict(), protocol, {"little_endian": little}))
    with pytest.raises(ConfigError, match=f"protocol {protocol} of"):
        read_torch_file(tmp_path / "w.pth")
