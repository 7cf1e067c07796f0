"""TFRecord files: written by TensorFlow, read without it; declared, checked and refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from tasks.compression.datasets.example import features_of
from tasks.compression.datasets.magic import head_crc32c, mask
from tasks.compression.errors import CompressionError
from tests.compression.datasets.making import arrays, image, opened, refused, same

LISTS = {"features": {"x": {"shape": [2]}, "y": {"shape": [1]}}, "input": "x", "label": "y"}


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def delimited(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def feature(values: Any) -> bytes:
    """A ``Feature``, by the wire format's rules: bytes, packed floats or packed integers."""
    if isinstance(values, bytes):
        return delimited(1, delimited(1, values))
    if any(isinstance(value, float) for value in values):
        return delimited(2, delimited(1, struct.pack(f"<{len(values)}f", *values)))
    return delimited(3, delimited(1, b"".join(varint(value % 2**64) for value in values)))


def example(**features: Any) -> bytes:
    entries = [
        delimited(1, delimited(1, name.encode()) + delimited(2, feature(values)))
        for name, values in features.items()
    ]
    return delimited(1, b"".join(entries))


def framed(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", mask(google_crc32c.value(part))) for part in (length, content)]
    return length + sums[0] + content + sums[1]


def written(tmp_path: Path, records: Iterable[bytes], *, packed: bool = False) -> Path:
    path = tmp_path / "records.npz"  # the name says nothing
    content = b"".join(framed(record) for record in records)
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_lists_of_numbers(tmp_path: Path, packed: bool) -> None:
    path = written(
        tmp_path, [example(x=[1.5, 2.0], y=[7], z=b"?"), example(x=[3.0, 4.0], y=[-1])], packed=packed
    )
    found = opened(path, (2,), tfrecord=LISTS)
    data = found.read(frozenset({"x", "y"}))
    assert same(data["x"], [[1.5, 2], [3, 4]])
    assert same(data["y"], [[7], [-1]])
    source = found.source(data["x"])
    assert (source.format, source.details["records"], source.details["label"]) == ("tfrecord", 2, "y")


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "uint8"])
def test_raw_bytes_are_arrays_of_the_type_declared(tmp_path: Path, dtype: str) -> None:
    x = np.arange(12).reshape(2, 3, 2).astype(dtype)
    path = written(tmp_path, [example(x=row.astype(x.dtype.newbyteorder("<")).tobytes()) for row in x])
    schema = {"features": {"x": {"encoding": "raw", "dtype": dtype, "shape": [3, 2]}}, "input": "x"}
    data = arrays(path, (3, 2), tfrecord=schema)
    assert set(data) == {"x"}
    assert same(data["x"], x)


def test_images_and_texts(tmp_path: Path) -> None:
    pairs = ((10, b"wolf"), (99, b"ape"), (200, b"wolf"))
    path = written(tmp_path, [example(i=image(grey), l=text) for grey, text in pairs])
    schema = {"features": {"i": {"encoding": "image"}, "l": {"encoding": "text"}}, "input": "i", "label": "l"}
    found = opened(path, (4, 6, 1), tfrecord=schema, image={"scale": "0..1"})
    data = found.read(frozenset({"x", "y"}))
    assert np.allclose(data["x"][:, 0, 0, 0], np.array([10, 99, 200]) / 255)
    assert same(data["y"], [1, 0, 1])
    source = found.source(data["x"])
    assert (source.classes, source.details["scale"]) == (["ape", "wolf"], "0..1")
    fault = refused(path, (4, 6, 1), tfrecord=schema, classes=["ape", "cat"])
    assert (fault.code, "record 1" in fault.detail) == ("label_out_of_range", True)


def test_numbers_become_classes_where_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, [example(x=[1.0, 2.0], y=[number]) for number in (30, 4, 30)])
    schema = {**LISTS, "features": {"x": {"shape": [2]}, "y": {}}}
    assert same(arrays(path, (2,), tfrecord=schema)["y"], [30, 4, 30])
    assert same(arrays(path, (2,), tfrecord=schema, classes="sorted")["y"], [1, 0, 1])


def test_without_a_schema_the_features_there_are_told(tmp_path: Path) -> None:
    fault = refused(written(tmp_path, [example(x=[1.0], y=[1])]), (1,))
    assert (fault.code, fault.pointer) == ("invalid_request", "/data/tfrecord")
    assert "x (float_list), y (int64_list)" in fault.detail


@pytest.mark.parametrize(
    ("record", "code", "said"),
    [
        (example(x=[1.0, 2.0, 3.0], y=[1]), "shape_mismatch", "record 2: x has 3 values, and 2 are declared"),
        (example(x=[1.0, 2.0]), "column_missing", "record 2 has no feature 'y'"),
        (example(x=b"12345678", y=[1]), "dtype_not_allowed", "record 2: x is a bytes_list"),
        (delimited(1, delimited(1, delimited(1, b"x") + delimited(2, b""))), "value_missing", "x is empty"),
        (b"\xff\xff no example", "bad_data", "record 2 is no tf.train.Example"),
    ],
)
def test_a_record_unlike_its_declaration_is_refused(
    tmp_path: Path, record: bytes, code: str, said: str
) -> None:
    fault = refused(written(tmp_path, [example(x=[1.0, 2.0], y=[1]), record]), (2,), tfrecord=LISTS)
    assert fault.code == code
    assert said in fault.detail


def test_damage_is_found_by_checksum_and_length(tmp_path: Path) -> None:
    path = written(tmp_path, [example(x=[1.0, 2.0], y=[1]), example(x=[3.0, 4.0], y=[0])])
    content = path.read_bytes()
    half = len(content) // 2
    for place in (half + 2, half + 9, half + 20, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        fault = refused(path, (2,), tfrecord=LISTS)
        assert (fault.code, "record 2" in fault.detail) == ("bad_data", True)
    for length in (half + 1, half + 14, len(content) - 2):
        path.write_bytes(content[:length])
        assert refused(path, (2,), tfrecord=LISTS).code == "bad_data"
    path.write_bytes(gzip.compress(content)[:-12])
    assert refused(path, (2,), tfrecord=LISTS).code == "bad_data"


def test_a_length_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 40)
    path = tmp_path / "records"
    path.write_bytes(length + struct.pack("<I", mask(google_crc32c.value(length))) + bytes(100))
    assert refused(path, (2,), tfrecord=LISTS).code == "array_too_large"


def test_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.compression.datasets import recordframes
    from tasks.compression.datasets.archives import Bounds

    path = written(tmp_path, [bytes(1 << 20)] * 4, packed=True)
    with pytest.raises(CompressionError) as caught:
        list(recordframes.records(path, packed=True, bounds=Bounds(always_bytes=1 << 20)))
    assert caught.value.code == "archive_bomb"


def test_the_head_is_checked_by_the_same_checksum(tmp_path: Path) -> None:
    for content in (b"", b"123456789", bytes(range(256))):
        assert head_crc32c(content) == google_crc32c.value(content)
    assert head_crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


@pytest.mark.slow
def test_what_tensorflow_writes_is_read(tmp_path: Path) -> None:
    from tasks.compression.backends.tensorflow import _framework

    tf = _framework.tf
    path = tmp_path / "written.tfrecord"
    x = np.random.default_rng(0).normal(size=(5, 2, 2)).astype(np.float32)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, row in enumerate(x):
            values = {
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=row.reshape(-1))),
                "raw": tf.train.Feature(bytes_list=tf.train.BytesList(value=[row.tobytes()])),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[number - 2])),
            }
            record = tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()
            assert set(features_of(record, 1)) == set(values)
            writer.write(record)
    for name, encoding in (("x", "list"), ("raw", "raw")):
        features = {name: {"encoding": encoding, "shape": [2, 2]}, "y": {}}
        data = arrays(path, (2, 2), tfrecord={"features": features, "input": name, "label": "y"})
        assert same(data["x"], x)
        assert same(data["y"], [-2, -1, 0, 1, 2])
