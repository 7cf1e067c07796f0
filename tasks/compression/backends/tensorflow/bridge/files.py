"""Reads and writes the files of Keras 3."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

from tasks.compression.backends.tensorflow.bridge.comparison import Differs, compare
from tasks.compression.backends.tensorflow.bridge.graphs import keras3_side
from tasks.compression.backends.tensorflow.bridge.rebuild import NoCounterpart, Rebuilt, to_keras2, to_keras3
from tasks.compression.backends.tensorflow.config import KerasFile
from tasks.compression.backends.tensorflow.keras3 import (
    HINT,
    RELOAD,
    no_graph,
    refuse_what_is_not_keras,
    without_counterpart,
)
from tasks.compression.errors import CompressionError

__all__ = ["read_keras3", "read_with_keras3", "write_keras3"]


def read_keras3(path: Path, kind: str, file: KerasFile, scratch: Path) -> tuple[Any, float]:
    """The model in a file of Keras 3 as a tf_keras one, and how far their answers are apart, relative.

    CompressionError bad_model for a file that Keras cannot load; layer_not_allowed for one that carries code;
    unsupported_model for layers that Keras 2 does not have, and where a counterpart does not answer the same.
    """
    refuse_what_is_not_keras(file.model)
    copy = scratch / ("model.keras" if kind == "keras_zip" else "model.h5")
    shutil.copyfile(path, copy)
    try:
        model = read_with_keras3(copy)
    # Keras raises about anything for a file that contradicts itself.
    except Exception as error:
        raise CompressionError(
            "bad_model", f"Keras cannot load the model: {_first_line(error)}", hint=RELOAD[kind]
        ) from error
    finally:
        copy.unlink()
    if not hasattr(model, "inputs") or not model.inputs:
        raise no_graph()
    return _crossed(model)


def read_with_keras3(path: Path) -> Any:
    """As it is, uncompiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras3_side().keras.saving.load_model(path, compile=False, safe_mode=True)


def write_keras3(model: Any, path: Path) -> None:
    """Save a tf_keras model as a Keras 3 file, with the same bytes each time.

    CompressionError conversion_failed for one that Keras 3 cannot be given.
    """
    try:
        rebuilt = to_keras3(model)
        compare(rebuilt)
    except (NoCounterpart, Differs) as error:
        raise CompressionError(
            "conversion_failed",
            f"the model cannot be written for Keras 3: {error}",
            hint="leave out the output keras; tflite does not need it",
            layer=error.name,
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rebuilt.model.save(path)


def _crossed(model: Any) -> tuple[Any, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            rebuilt: Rebuilt = to_keras2(model)
            return rebuilt.model, compare(rebuilt)
        except NoCounterpart as error:
            raise without_counterpart(error.kind, error.name, error.why) from error
        except Differs as error:
            raise CompressionError(
                "unsupported_model",
                f"the {error.kind} {error.name}, rebuilt for Keras 2, answers otherwise than in Keras 3 (by "
                f"{error.difference:.2g} of its largest value)",
                hint=HINT,
                layer=error.name,
            ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
