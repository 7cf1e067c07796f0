"""HDF5 files: hard links only, nothing stored elsewhere, no array larger than what is stored of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from tasks.compression.errors import CompressionError
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.hdf5 import attribute_text, datasets
from tasks.sandbox.gate.config import check_config, parse

__all__ = ["check", "check_weights"]

_BOUNDS = Bounds(weight_bytes=8 << 30)


def check(path: Path) -> None:
    """A whole model's ``.h5``. CompressionError bad_h5, h5_external_reference, h5_too_large, and what
    `check_config` raises; unsupported_model for weights without a model."""
    with path.open("rb") as file:
        config = _read(file, _walked_config)
    if config is None:
        raise CompressionError(
            "unsupported_model",
            "the HDF5 file holds weights without the model they belong to",
            hint="save the whole model: model.save('model.keras')",
        )
    check_config(parse(config, "model_config"), "/model_config")


def check_weights(file: BinaryIO) -> None:
    """Weights alone; errors as of `check`."""
    _read(file, lambda opened: datasets(opened, _BOUNDS))


def _walked_config(opened: Any) -> str | None:
    datasets(opened, _BOUNDS)
    for name in ("training_config", "keras_version", "backend"):
        attribute_text(opened, name, _BOUNDS)
    return attribute_text(opened, "model_config", _BOUNDS)


def _read(file: BinaryIO, action: Callable[[Any], Any]) -> Any:
    try:
        with h5py.File(file, "r") as opened:
            return action(opened)
    except CompressionError as error:
        raise _as_h5(error) from error
    except MemoryError as error:
        raise CompressionError("h5_too_large", "the HDF5 file needs more memory than there is") from error
    # h5py raises about anything for bytes that are not what they should be.
    except Exception as error:
        raise CompressionError(
            "bad_h5",
            f"the HDF5 file is damaged or cut off: {str(error)[:200]}",
            hint="save and upload it again",
        ) from error


def _as_h5(error: CompressionError) -> CompressionError:
    """Bounds of the walk have the code of models as a whole."""
    if error.code != "bad_model":
        return error
    return CompressionError("bad_h5", error.detail, hint=error.hint)
