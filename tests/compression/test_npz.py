from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks.compression import CompressionError
from tasks.compression.datasets.samplefile import join
from tasks.compression.npz import MAX_ARRAYS, array_names, read_arrays

KEYS = frozenset({"x", "y"})


def refused(path: Path, **options: int) -> str:
    with pytest.raises(CompressionError) as caught:
        read_arrays(path, KEYS, **options)
    return caught.value.code


def write_member(path: Path, content: bytes, name: str = "x.npy") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return path


def header_of(shape: str, descr: str = "<f4") -> bytes:
    stream = io.BytesIO()
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    padded = text + " " * (63 - (len(text) + 10) % 64) + "\n"
    stream.write(b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode())
    return stream.getvalue()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", ">f4", ">i2"])
def test_arrays_come_back_as_they_were_written(tmp_path: Path, dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    np.savez_compressed(tmp_path / "d.npz", x=x, y=np.asfortranarray(x[0]), other=np.zeros(3))
    arrays = read_arrays(tmp_path / "d.npz", KEYS)
    assert set(arrays) == {"x", "y"}
    assert (arrays["x"] == x).all()
    assert (arrays["y"] == x[0]).all()
    assert arrays["x"].dtype == x.dtype.newbyteorder("=")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert refused(tmp_path / "d.npz") == "pickled_array"


@pytest.mark.parametrize("dtype", ["U3", "S2", "complex64", "datetime64[s]", [("a", "f4")]])
def test_types_that_are_no_numbers_are_refused(tmp_path: Path, dtype: object) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros(3, dtype=dtype))  # type: ignore[call-overload]
    assert refused(tmp_path / "d.npz") == "dtype_not_allowed"


def test_array_larger_than_the_limit_is_refused_unread(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros(1_000_000, np.float32))
    assert refused(tmp_path / "d.npz", max_bytes=1_000_000) == "array_too_large"


def test_header_that_promises_more_than_there_is_is_refused(tmp_path: Path) -> None:
    assert (
        refused(write_member(tmp_path / "d.npz", header_of(f"({2**40},)") + b"\0" * 64)) == "array_too_large"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not an array at all", header_of("(1,)")[:40], header_of("(1,)", "<q9")],
)
def test_members_that_are_no_arrays_are_refused(tmp_path: Path, content: bytes) -> None:
    assert refused(write_member(tmp_path / "d.npz", content)) == "bad_npz"


def test_truncated_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros(1000))
    content = (tmp_path / "d.npz").read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 4):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        assert refused(tmp_path / "cut.npz") == "bad_archive"


def test_array_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header_of("(1,)") + b"\0" * 4)
        archive.writestr("x", header_of("(1,)") + b"\0" * 4)
    assert refused(path) == "bad_npz"


def test_names_are_told_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x_train/image.npy", b"no array")
        archive.writestr("y.npy", b"")
    assert array_names(path) == ["x_train/image", "y"]
    path.write_bytes(b"PK")
    with pytest.raises(CompressionError, match="bad_archive"):
        array_names(path)


def test_too_many_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **{f"a{index}": np.zeros(1) for index in range(MAX_ARRAYS + 1)})
    assert refused(tmp_path / "d.npz") == "too_many_files"


def test_arrays_of_a_kind_are_joined_without_being_copied(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
    labels = np.arange(6, dtype=np.uint8)
    path = tmp_path / "d.npz"
    np.savez(path, x_train=rows[:4], y_train=labels[:4], x_test=rows[4:], y_test=labels[4:])
    found = read_arrays(path, frozenset({"x_train", "x_test", "y_train", "y_test"}))
    for side, expected in (("x", rows), ("y", labels)):
        train, test = found[f"{side}_train"], found[f"{side}_test"]
        whole = join(train, test)
        assert np.array_equal(whole, expected)
        assert np.shares_memory(whole, train)
        assert np.shares_memory(whole, test)
        part = join(train[1:], test)
        assert np.array_equal(part, expected[1:])
        other_way = join(test, train)
        assert np.array_equal(other_way, np.concatenate([expected[4:], expected[:4]]))
        assert not np.shares_memory(other_way, train)
        with_gap = join(train[:-1], test)
        assert np.array_equal(with_gap, np.delete(expected, 3, axis=0))
