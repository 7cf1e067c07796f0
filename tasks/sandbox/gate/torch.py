"""PyTorch's archives: programs of ``torch.export`` (``.pt2``), which are taken, and checkpoints of
``torch.save`` and TorchScript, which are not: by their members and the opcodes of their pickles."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

from tasks.compression.datasets.archives import BROKEN, Bounds, checked, damaged, zip_content
from tasks.compression.errors import CompressionError
from tasks.compression.exported import read_program
from tasks.compression.exported.archive import SAMPLES, members_of
from tasks.compression.exported.program import TORCH
from tasks.sandbox.gate.pickles import WAY_OUT, check_pickle

__all__ = ["check_checkpoint", "check_old_program", "check_program"]

_BOUNDS = Bounds(members=100_000, member_bytes=8 << 30)
_PICKLE_BYTES = 64 << 20
_SAMPLE_BYTES = 256 << 20
_CHECKPOINT = re.compile(
    r"data\.pkl|data/[0-9]+|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id"
)


def check_checkpoint(path: Path) -> None:
    """CompressionError pickle_not_allowed, archive_member_not_allowed (TorchScript), unsupported_model (what
    is left: tensors without the model they are of), and those of the archive."""
    with path.open("rb") as file:
        _check(file, path)
    raise CompressionError(
        "unsupported_model",
        "the file holds weights and no model: a checkpoint of torch.save says nothing of how they are used",
        hint=WAY_OUT,
    )


def check_program(path: Path) -> None:
    """CompressionError of whatever `tasks.compression.exported` refuses; pickle_not_allowed where the sample
    inputs, which nothing loads, are more than tensors."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            for name, info in members_of(archive, path)[0].items():
                if SAMPLES.fullmatch(name) and info.file_size:
                    _check(io.BytesIO(_content(archive, info, _SAMPLE_BYTES)), path)
    except BROKEN as error:
        raise damaged(error) from error
    read_program(path)


def check_old_program(path: Path) -> None:
    """What ``torch.export.save`` wrote in another layout: CompressionError unsupported_model."""
    raise CompressionError(
        "unsupported_model",
        f"the program was exported by an older PyTorch; programs of PyTorch {TORCH} are taken",
        hint=f"export it again with torch {TORCH}, by featherweight.torch.save(model, example_inputs, path)",
    )


def _check(file: Any, path: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            pickles = []
            for info in checked(archive, path, _BOUNDS):
                # Everything lies in one folder, whatever that is called.
                name = info.filename.partition("/")[2]
                if not _CHECKPOINT.fullmatch(name):
                    raise CompressionError(
                        "archive_member_not_allowed",
                        f"{info.filename[:100]!r} does not belong into a file of tensors; TorchScript is not "
                        "taken",
                        hint=WAY_OUT,
                    )
                if name == "data.pkl":
                    pickles.append(info)
            for info in pickles:
                check_pickle(_content(archive, info, _PICKLE_BYTES), "data.pkl")
    except BROKEN as error:
        raise damaged(error) from error


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.file_size > limit:
        raise CompressionError("model_too_large", f"{info.filename[:100]!r} has more than {limit} bytes")
    return zip_content(archive, info)
