"""What a file is, its first bytes say, and never its name."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from featherweight.report import ReportWarning
from tasks.compression.datasets.magic import file_format
from tests.compression.datasets.making import ALL, facts, image, opened, refused, tar_of, zip_of


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"PK\x03\x04" + bytes(26), "zip"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"PAR1" + bytes(8), "parquet"),
        (b"a,b\n1,2\n", "csv"),
        ("\ufeffgröße;x\n".encode(), "csv"),
        (("ü" * 300).encode()[:511] + b"\xc3", "csv"),
        ("ü".encode()[:1], None),
        (b"", None),
        (bytes(512), None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"\x93NUMPY\x01\x00", None),
        (b"a,b\n1,\x00\n", None),
        ("a,b".encode("utf-16"), None),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), None),
        (b"\x1f\x8b\x08 no gzip", None),
    ],
)
def test_first_bytes(head: bytes, found: str | None) -> None:
    assert file_format(head) == found


def test_a_file_of_no_format_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(image())
    fault = refused(path, (4, 6, 1))
    assert fault.code == "bad_data"
    assert fault.hint is not None
    assert ".parquet" in fault.hint


def test_a_zip_with_arrays_is_read_as_before_and_in_part(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    np.savez(path.with_suffix(".npz"), x=np.arange(3), y=np.arange(3), other=np.zeros(1))
    path.with_suffix(".npz").rename(path)
    found = opened(path, (1,))
    assert found.format == "npz"
    assert set(found.read(frozenset({"x"}))) == {"x"}
    assert set(found.read(ALL)) == {"x", "y"}


def test_options_of_another_format_are_said_to_be_without_effect(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros(3))
    warnings: list[ReportWarning] = []
    opened(tmp_path / "d.npz", (1,), warnings, target="y", image={"scale": "0..1"}, features=None)
    assert [each.code for each in warnings] == ["data_option_unused"] * 2
    assert "data.image" in warnings[0].message
    path = zip_of(tmp_path / "z", {"a/1.png": image(), "b/1.png": image()})
    warnings.clear()
    opened(path, (4, 6, 1), warnings, classes=["b", "a"], image={})
    assert warnings == []


def test_a_model_with_several_inputs_needs_named_arrays(tmp_path: Path) -> None:
    from tasks.compression.datasets.opened import open_dataset
    from tasks.compression.errors import CompressionError

    path = tar_of(tmp_path / "t", {"1.png": image()})
    with pytest.raises(CompressionError) as caught:
        open_dataset(path, facts((4, 6, 1), (3,)), None, tmp_path / "s", lambda warning: None)
    assert caught.value.code == "shape_mismatch"
    assert caught.value.hint is not None
