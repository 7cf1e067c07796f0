"""What a file is, by its first bytes and never by its name, and the check that goes with it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tasks.compression.datasets.archives import BROKEN, damaged
from tasks.compression.datasets.magic import HEAD_BYTES, file_format
from tasks.compression.errors import CompressionError
from tasks.compression.onnx_magic import is_onnx

__all__ = ["CHECKS", "checker", "kind_of"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TFLITE = b"TFL3"
_PICKLE_PROTOCOLS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

CHECKS: dict[tuple[str, str], str] = {
    ("model", "keras_zip"): "keras:check",
    ("model", "hdf5"): "hdf5:check",
    ("model", "tflite"): "tflite:check",
    ("model", "onnx"): "onnx:check",
    ("model", "saved_model"): "saved_model:check",
    ("model", "tar"): "saved_model:check",
    ("model", "tar_gz"): "saved_model:check",
    ("model", "torch"): "torch:check_checkpoint",
    ("model", "torch_program"): "torch:check_program",
    ("model", "old_torch_program"): "torch:check_old_program",
    ("model", "pickle"): "pickles:check",
    ("dataset", "npz"): "npz:check",
    ("dataset", "zip"): "images:check",
    ("dataset", "tar"): "images:check",
    ("dataset", "tar_gz"): "images:check",
    ("dataset", "csv"): "csv_file:check",
    ("dataset", "parquet"): "parquet:check",
    ("dataset", "tfrecord"): "records:check",
    ("dataset", "tfrecord_gz"): "records:check_packed",
}
"""By role and kind; what is not here is refused."""


def checker(path: Path, role: str) -> Callable[[Path], None]:
    """CompressionError unsupported_model or unknown_file_type for a kind that the role does not have;
    bad_archive for an archive that cannot be listed."""
    kind = kind_of(path)
    target = CHECKS.get((role, kind))
    if target is None:
        raise _unknown(role, kind)
    module, _, name = target.partition(":")
    found: Any = getattr(import_module(f"tasks.sandbox.gate.{module}"), name)
    return found  # type: ignore[no-any-return]


def kind_of(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == _TFLITE:
        return "tflite"
    if head.startswith(_PICKLE_PROTOCOLS):
        return "pickle"
    if is_onnx(head):
        return "onnx"
    found = file_format(head)
    if found == "zip":
        return _zip_kind(path)
    return found or ("empty" if not head else "unknown")


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except BROKEN as error:
        raise damaged(error) from error
    bases = {name.rsplit("/", 1)[-1] for name in names}
    if "config.json" in names:
        return "keras_zip"
    if bases & {"saved_model.pb", "saved_model.pbtxt"}:
        return "saved_model"
    if "serialized_exported_program.json" in names:
        return "old_torch_program"
    if "archive_format" in bases:
        return "torch_program"
    if "data.pkl" in bases:
        return "torch"
    return "npz" if any(name.endswith(".npy") for name in names) else "zip"


def _unknown(role: str, kind: str) -> CompressionError:
    if kind in ("empty", "unknown"):
        return CompressionError("unknown_file_type", "the first bytes are of no known format")
    if role == "model":
        return CompressionError(
            "unsupported_model",
            f"the file is no model: it is of the kind {kind}",
            hint="upload a model saved by model.save('model.keras') or model.save('model.h5'), or by "
            "featherweight.torch.save(model, example_inputs, 'model.pt2')",
        )
    return CompressionError(
        "unknown_file_type",
        f"the file is no data set: it is of the kind {kind}",
        hint=".npz, .csv (UTF-8), .parquet, TFRecord, and zip or tar archives of images can be read",
    )
