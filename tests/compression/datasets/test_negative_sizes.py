"""Tar archives with negative sizes, by which CVE-2025-8194 keeps tarfile reading for ever: we read them as a
stream, which does not go back."""

from __future__ import annotations

import io
import tarfile
from itertools import islice
from pathlib import Path

import pytest

from tasks.compression.datasets.archives import members
from tasks.compression.errors import CompressionError

_HEADER, _SECOND = 512, 1024


def archive(kind: bytes, where: int, size: int) -> bytes:
    """Two small files, with type and size of the header at `where` overwritten and its checksum made anew."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name in ("a/x.png", "a/y.png"):
            member = tarfile.TarInfo(name)
            member.size = 10
            made.addfile(member, io.BytesIO(bytes(10)))
    data = bytearray(out.getvalue())
    header = memoryview(data)[where : where + _HEADER]
    # Base 256, the one form of the field that has a sign.
    header[124:136] = b"\xff" + size.to_bytes(11, "big", signed=True)
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(data)


ENDS = {"read to its end", "bad_data", "bad_archive"} | {
    f"archive_{why}" for why in ("path_not_allowed", "special_file", "link_not_allowed")
}


@pytest.mark.parametrize("size", [-1, -512, -1024, -1536, -2048])
@pytest.mark.parametrize("where", [0, _SECOND])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, b"x", b"L"])
def test_reading_comes_to_an_end(tmp_path: Path, kind: bytes, where: int, size: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(archive(kind, where, size))
    assert outcome(path) in (
        "bad_data",
        "bad_archive",
        "archive_path_not_allowed",
        "archive_special_file",
        "archive_link_not_allowed",
        "read to its end",
    )


def outcome(path: Path) -> str:
    try:
        read = list(islice(members(path), 10))
    except CompressionError as refused:
        return refused.code
    return "read to its end" if len(read) <= 2 else "endless"
