"""TFRecord files of tf.train.Example without TensorFlow: worker processes start in half a second, not in five.

Format (tensorflow.org/tutorials/load_data/tfrecord): per record a little-endian uint64 length, a masked CRC-32C of the
length, the data, a masked CRC-32C of the data. Message: tensorflow/core/example/{example,feature}.proto.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_HEADER = struct.Struct("<QI")  # length of the data, masked CRC of those 8 bytes
_FOOTER = struct.Struct("<I")  # masked CRC of the data
_OVERHEAD = _HEADER.size + _FOOTER.size


class CorruptRecord(Exception):
    """A record that is damaged: its number, from 0, and where its bytes start and stop."""

    def __init__(self, record: int, start: int, stop: int):
        super().__init__(f"record {record} (bytes {start} to {stop}) is damaged")


def framed(data: bytes) -> bytes:
    """`data` as one record of a file."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(_masked_crc(length)), data, _FOOTER.pack(_masked_crc(data))))


class Written(NamedTuple):
    """A file that was written: how many records, how many bytes, and their SHA-256."""

    records: int
    bytes: int
    sha256: str


def write_records(file: BinaryIO, records: Iterable[bytes]) -> Written:
    """Write the data of records to `file`, each as soon as it comes."""
    digest, count, size = hashlib.sha256(), 0, 0
    for data in records:
        record = framed(data)
        file.write(record)
        digest.update(record)
        count, size = count + 1, size + len(record)
    return Written(count, size, digest.hexdigest())


def read_records(path: Path, numbers: Collection[int] | None = None) -> Iterator[bytes]:
    """The data of every record of a file, or of those with these numbers; what lies between is not read.

    Raises CorruptRecord at the first that is damaged or truncated.
    """
    size, start, n = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        while start < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise CorruptRecord(n, start, size)
            length, crc = _HEADER.unpack(header)
            stop = start + _OVERHEAD + length
            if crc != _masked_crc(header[:8]) or stop > size:
                raise CorruptRecord(n, start, min(stop, size))
            if numbers is not None and n not in numbers:
                file.seek(stop)
                start, n = stop, n + 1
                continue
            data = file.read(length)
            if _FOOTER.unpack(file.read(_FOOTER.size))[0] != _masked_crc(data):
                raise CorruptRecord(n, start, stop)
            yield data
            start, n = stop, n + 1


def serialise(features: Mapping[str, Sequence[bytes] | Sequence[int] | Sequence[float]]) -> bytes:
    """A tf.train.Example of lists of bytes, of integers or of floats; the same bytes for equal features.

    An empty list is left out: readers take a feature that is not there as one.
    """
    example = _Example()
    for name, values in features.items():
        if not len(values):
            continue
        feature = example.features.feature[name]
        kind = {bytes: feature.bytes_list, int: feature.int64_list}.get(type(values[0]), feature.float_list)
        kind.value.extend(values)
    # deterministic: protobuf otherwise writes a map's entries in any order, and equal records would differ in bytes
    return example.SerializeToString(deterministic=True)


def parse(data: bytes, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The features of a serialised tf.train.Example, as lists: all, or those of some names, empty where absent.

    Raises ValueError for anything else.
    """
    try:
        features = _Example.FromString(data).features.feature
    except Exception as error:  # protobuf's DecodeError, which is another class in each of its implementations
        raise ValueError("not a tf.train.Example") from error
    return {name: _values(features[name]) for name in (features if names is None else names)}


def _values(feature: Any) -> list[Any]:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _example_class() -> Any:
    """The message class of tf.train.Example, in a pool of its own (TensorFlow's has the same names)."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        message(name).field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), start=1):
        feature.field.add(
            name=name.replace("List", "_list").lower(),
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{name}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature", label=field.LABEL_OPTIONAL
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    message("Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features", label=field.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_Example = _example_class()
