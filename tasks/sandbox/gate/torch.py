"""PyTorch's archives: a checkpoint of tensors (``torch.save``) and a program of ``torch.export`` (``.pt2``),
by the names of their members, the opcodes of their pickles and what their JSON says of pickles."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from tasks.compression.datasets.archives import BROKEN, Bounds, checked, damaged, zip_content
from tasks.compression.errors import CompressionError
from tasks.sandbox.gate.pickles import check_pickle

__all__ = ["check_checkpoint", "check_program"]

_BOUNDS = Bounds(members=100_000, member_bytes=8 << 30)
_PICKLE_BYTES = 64 << 20
_JSON_BYTES = 256 << 20
_COMMON = r"version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id"
_CHECKPOINT = re.compile(rf"data\.pkl|data/[0-9]+|{_COMMON}")
_PROGRAM = re.compile(
    rf"archive_format|archive_version|models/[\w.-]+\.json|data/weights/(weight_[0-9]+|[\w.-]+_config\.json)"
    rf"|data/constants/(tensor_[0-9]+|[\w.-]+_config\.json)|data/sample_inputs/[\w.-]+\.pt|{_COMMON}"
)


def check_checkpoint(path: Path) -> None:
    """CompressionError pickle_not_allowed, archive_member_not_allowed (TorchScript among them), and of the
    archive."""
    with path.open("rb") as file:
        _check(file, path, _CHECKPOINT)


def check_program(path: Path) -> None:
    """The same of a ``.pt2``, whose weights must be raw and whose sample inputs tensors alone."""
    with path.open("rb") as file:
        _check(file, path, _PROGRAM)


def _check(file: Any, path: Path, allowed: re.Pattern[str]) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            for info in checked(archive, path, _BOUNDS):
                # Everything lies in one folder, whatever that is called.
                name = info.filename.partition("/")[2]
                if not allowed.fullmatch(name):
                    raise CompressionError(
                        "archive_member_not_allowed",
                        f"{info.filename[:100]!r} does not belong into such a file",
                        hint="save the state_dict with torch.save, or the program with torch.export.save",
                    )
                _check_member(archive, info, name, path)
    except BROKEN as error:
        raise damaged(error) from error


def _check_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, path: Path) -> None:
    if name == "data.pkl":
        check_pickle(_content(archive, info, _PICKLE_BYTES), name)
    elif name.startswith("data/sample_inputs/"):
        _check(io.BytesIO(_content(archive, info, _JSON_BYTES)), path, _CHECKPOINT)
    elif name.endswith(".json"):
        _check_json(_content(archive, info, _JSON_BYTES), name)


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    if info.file_size > limit:
        raise CompressionError("model_too_large", f"{info.filename[:100]!r} has more than {limit} bytes")
    return zip_content(archive, info)


def _check_json(content: bytes, name: str) -> None:
    try:
        waiting: list[Any] = [json.loads(content)]
    except (ValueError, RecursionError) as error:
        raise CompressionError("bad_config", f"{name} is no JSON that can be read") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if value.get("use_pickle"):
                raise CompressionError("pickle_not_allowed", f"{name} asks for pickled weights")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
