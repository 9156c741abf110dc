import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.data.records import tfrecord
from kit.runtime.devices import import_tensorflow

FEATURES = {
    "id": [b"a7"],
    "image": [bytes(range(256)) * 9],
    "shape": [4, -3, 2**40],
    "label": [1.0, float("nan")],
    "group": [b""],
}


def tensorflow_example(features):
    tf = import_tensorflow()
    message = {}
    for name, values in features.items():
        if isinstance(values[0], bytes):
            message[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], int):
            message[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        else:
            message[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Example(features=tf.train.Features(feature=message)).SerializeToString(deterministic=True)


def test_an_example_is_the_one_tensorflow_writes():
    assert tfrecord.serialise(FEATURES) == tensorflow_example(FEATURES)
    back = tfrecord.parse(tensorflow_example(FEATURES))
    assert np.isnan(back["label"].pop())
    assert back == {**FEATURES, "label": [1.0]}


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_file_is_the_one_tensorflow_writes(tmp_path_factory, records):
    tf = import_tensorflow()
    ours, theirs = (tmp_path_factory.mktemp("records") / name for name in ("ours", "theirs"))
    ours.write_bytes(b"".join(map(tfrecord.framed, records)))
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for record in records:
            writer.write(record)
    assert ours.read_bytes() == theirs.read_bytes()
    assert list(tfrecord.read_records(theirs)) == records


@given(st.integers(0, 10**6), st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(tmp_path_factory, where, bit):
    data = bytearray(b"".join(map(tfrecord.framed, [b"first", b"", b"a longer record"])))
    data[where % len(data)] ^= 1 << bit
    path = tmp_path_factory.mktemp("records") / "x"
    path.write_bytes(data)
    with pytest.raises(tfrecord.CorruptRecord):
        list(tfrecord.read_records(path))


def test_not_an_example():
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        tfrecord.parse(b"\xff\xff")
