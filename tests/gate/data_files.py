"""Data sets that attack whoever reads them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["FILES", "png", "tar_of", "zip_of"]

Make = Callable[[Path, Path], bytes]


def png(width: int = 4, height: int = 4, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("L", (width, height)).save(out, "PNG", **options)
    return out.getvalue()


def header_of(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz_of(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def tar_of(members: Iterable[tarfile.TarInfo | tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def _special(name: str, kind: bytes, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def _with_image(*more: Any) -> bytes:
    return tar_of([("a/1.png", png()), *more])


def _object_array() -> bytes:
    out = io.BytesIO()
    np.savez(out, x=np.array([{}], dtype=object))
    return out.getvalue()


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("a/x.png")
    info.external_attr = 0o120777 << 16
    return info


def _lying() -> bytes:
    """A stream of 50 MB, of which the directory says that it has 10 bytes."""
    content = bytearray(zip_of(("a/x.png", bytes(50_000_000))))
    place = content.rindex(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", 10)
    return bytes(content)


def _nameless() -> bytes:
    info = zipfile.ZipInfo("x")
    info.filename = ""
    return zip_of(("a/1.png", png()), (info, b"x"))


def _encrypted() -> bytes:
    content = bytearray(zip_of(("a/1.png", png())))
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def _huge_header() -> bytes:
    content = bytearray(png())
    content[16:24] = (1 << 31).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def _image_bomb() -> bytes:
    """30,000 times 30,000 pixels of one bit, without an image library's help."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(30_000 * (30_000 // 8 + 1)), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FILES: dict[str, tuple[str, Make]] = {
    "npz_pickle": ("pickled_array", lambda *_: _object_array()),
    "npz_hugeshape": (
        "array_too_large",
        lambda *_: npz_of(("x.npy", header_of(f"({2**40},)") + bytes(64))),
    ),
    "npz_bomb": (
        "archive_bomb",
        lambda *_: npz_of(
            ("x.npy", header_of(f"({1 << 26},)") + bytes(1 << 28)), compression=zipfile.ZIP_DEFLATED
        ),
    ),
    "npz_evilheader": (
        "bad_npz",
        lambda *_: npz_of(("x.npy", header_of("(1,)", "[" * 9_000 + "]" * 9_000))),
    ),
    "npz_unclosedheader": ("bad_npz", lambda *_: npz_of(("x.npy", header_of("(1, (") + bytes(4)))),
    "npz_structdtype": (
        "dtype_not_allowed",
        lambda *_: npz_of(("x.npy", header_of("(1,)", "[('a', '<f4')]") + bytes(4))),
    ),
    "csv_wide": ("csv_too_wide", lambda *_: b",".join([b"1"] * 1_000_000) + b"\n"),
    "csv_binary": ("csv_bad_encoding", lambda *_: b"a,b\n" + b"1,2\n" * 200 + b"1,\x00\xff\n"),
    "csv_ragged": ("csv_ragged", lambda *_: b"a,b\n1,2\n1,2,3\n"),
    "csv_quote": ("csv_field_too_large", lambda *_: b'a,b\n1,"' + b"x" * 20_000_000),
    "tar_traversal": ("archive_path_not_allowed", lambda *_: _with_image(("../x", b"x"))),
    "tar_absolute": ("archive_path_not_allowed", lambda *_: _with_image(("/abs/x", b"x"))),
    "tar_symlink": (
        "archive_link_not_allowed",
        lambda canary, _: _with_image(_special("a/x", tarfile.SYMTYPE, linkname=str(canary))),
    ),
    "tar_symlink_dir": (
        "archive_link_not_allowed",
        lambda _, markers: _with_image(_special("d", tarfile.SYMTYPE, linkname=str(markers)), ("d/x", b"x")),
    ),
    "tar_hardlink": (
        "archive_link_not_allowed",
        lambda canary, _: _with_image(_special("a/x", tarfile.LNKTYPE, linkname=str(canary))),
    ),
    "tar_fifo": ("archive_special_file", lambda *_: _with_image(_special("a/x", tarfile.FIFOTYPE))),
    "tar_device": (
        "archive_special_file",
        lambda *_: _with_image(_special("a/x", tarfile.CHRTYPE, devmajor=1, devminor=5)),
    ),
    "tar_many": (
        "too_many_files",
        lambda *_: tar_of((f"a/{number}", b"") for number in range(60_000)),
    ),
    "zip_traversal": ("archive_path_not_allowed", lambda *_: zip_of(("../x.png", png()))),
    "zip_traversal_windows": ("archive_path_not_allowed", lambda *_: zip_of(("..\\x.png", png()))),
    "zip_nameless": ("archive_path_not_allowed", lambda *_: _nameless()),
    "zip_symlink": ("archive_link_not_allowed", lambda *_: zip_of((_link(), b"/etc/passwd"))),
    "zip_bomb": ("archive_bomb", lambda *_: zip_of(("a/x.png", bytes(1 << 28)))),
    "zip_lying": ("archive_bomb", lambda *_: _lying()),
    "zip_nested": ("archive_nested", lambda *_: zip_of(("a/1.png", png()), ("x", zip_of(("y", b"y"))))),
    "zip_encrypted": ("archive_encrypted", lambda *_: _encrypted()),
    "tar_gz_bomb": ("archive_bomb", lambda *_: gzip.compress(_with_image(("a/x", bytes(1 << 26))))),
    "img_png_bomb": ("image_too_large", lambda *_: zip_of(("a/x.png", _image_bomb()))),
    "img_png_hugeheader": ("image_too_large", lambda *_: zip_of(("a/x.png", _huge_header()))),
    "img_truncated": ("bad_image", lambda *_: zip_of(("a/x.png", png(40, 40)[:60]))),
    "img_svg_as_png": (
        "bad_image",
        lambda *_: zip_of(("a/x.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    ),
}
