"""Writes files: ``.tflite`` by TensorFlow's converter, ``.keras`` with the same bytes each time."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.compression.backends.tensorflow._framework import lite, without_autograph
from tasks.compression.backends.tensorflow.bridge.files import write_keras3
from tasks.compression.backends.tensorflow.inference import served
from tasks.compression.errors import CompressionError

__all__ = ["encode_zeros", "to_tflite", "write_keras"]

_LOCATION = re.compile(r"(?:^\S+|/\S+):\d+:\d+: ")
_LACKING = re.compile(r"^TF Select ops: (.+)$", re.MULTILINE)
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@without_autograph  # type: ignore[untyped-decorator]
def to_tflite(model: Any, configure: Callable[[Any], None] | None = None) -> bytes:
    """The model as a ``.tflite``; `configure` sets the converter up, without it weights stay float32.

    The batch is left open where the converter can do that; recurrent layers it takes with a batch of 1
    only. CompressionError conversion_failed for models it cannot take at all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The converter raises its own ConverterError, ValueError, RuntimeError and more.
        with contextlib.suppress(Exception):
            return _convert(model, configure, batch=None)
        try:
            return _convert(model, configure, batch=1)
        except Exception as error:
            raise CompressionError(
                "conversion_failed",
                f"TensorFlow's converter refused the model: {_why(error)}",
                hint="leave out the output tflite, or replace the layer it names",
            ) from error


def encode_zeros(converter: Any) -> None:
    """Configure a converter to store sparse weights as such: what makes XNNPACK take its sparse kernels."""
    converter.optimizations = [lite.Optimize.EXPERIMENTAL_SPARSITY]


def _convert(model: Any, configure: Callable[[Any], None] | None, batch: int | None) -> bytes:
    converter = _converter(model, batch)
    if configure is not None:
        configure(converter)
    return bytes(converter.convert())


def _converter(model: Any, batch: int | None) -> Any:
    """What from_keras_model makes, the same names in the signature, in half the time: that one traces every
    layer on its own to save the model in full."""
    module = served(model, batch)
    return lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module)


def write_keras(model: Any, path: Path, *, keras3: bool = False) -> None:
    """Save uncompiled, dates and addresses in memory taken out: equal models make equal files.
    CompressionError conversion_failed for a model that Keras 3 cannot be given."""
    raw = path.with_name(f"{path.stem}.raw.keras")
    if keras3:
        write_keras3(model, raw)
    else:
        _write_keras2(model, raw)
    with zipfile.ZipFile(raw) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "metadata.json":
                content = json.dumps(json.loads(content) | {"date_saved": "1980-01-01@00:00:00"}).encode()
            elif name == "config.json":
                content = json.dumps(_numbered(json.loads(content), {})).encode()
            target.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
    raw.unlink()


def _numbered(config: Any, numbers: dict[int, int]) -> Any:
    """`config` with the marks of what its parts share, which are addresses in memory, counted in order."""
    if isinstance(config, list):
        return [_numbered(part, numbers) for part in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(part, len(numbers))
        if key == "shared_object_id" and isinstance(part, int)
        else _numbered(part, numbers)
        for key, part in config.items()
    }


def _write_keras2(model: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _uncompiled(model).save(path)


def _uncompiled(model: Any) -> Any:
    """The optimiser's variables would be saved with the model, three times its size."""
    model.optimizer = None
    model.compiled_loss = None
    model.compiled_metrics = None
    model._is_compiled = False
    return model


def _why(error: Exception) -> str:
    """In the converter's words, the operations it lacks alone where it says so. Without the source locations
    that it begins with or has inside: they are paths of this machine."""
    text = str(error).strip()
    if (lacking := _LACKING.search(text)) is not None:
        return f"TFLite has no operation for {lacking[1]}"[:300]
    return (_LOCATION.sub("", text) or type(error).__name__).splitlines()[0][:300]
