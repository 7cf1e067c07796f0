"""Which Keras layers the converters have no operations for: told before a job is spent.

Found by handing every layer to every converter; what the table says is tried again by the tests. It imports
no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from featherweight.spec import OutputFormat
from tasks.compression.backends.tensorflow.refusals import KNOWN_CLASSES

__all__ = ["CONVERTED", "obstacle"]

Config = Mapping[str, Any]

_RESIZED = ("nearest", "bilinear")
_LOOKUPS = frozenset(["IntegerLookup", "StringLookup", "TextVectorization"])
_NO_OPERATION = frozenset(["AveragePooling3D", "AvgPool3D", "MaxPooling3D", "MaxPool3D", "CategoryEncoding"])
_HASHES = frozenset(["Hashing", "HashedCrossing"])
_NOT_TRIED = frozenset(
    [
        *("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty"),
        *("Layer", "Wrapper", "AbstractRNNCell", "DenseFeatures", "Lambda"),
        *("HashedCrossing", "SpectralNormalization"),
    ]
)

CONVERTED: frozenset[str] = KNOWN_CLASSES - _NOT_TRIED
"""The kinds that are known to go into every format, but for what `obstacle` says."""


def obstacle(kind: str, config: Config, output: OutputFormat) -> str | None:
    """Why a layer cannot be in a file of that format, as a clause; None where nothing is known against it."""
    if output in ("tflite", "c_array"):
        return _to_tflite(kind, config)
    if output == "onnx":
        return _to_onnx(kind, config)
    if output == "saved_model":
        return _to_saved_model(kind)
    return None


def _to_tflite(kind: str, config: Config) -> str | None:
    if kind in _NO_OPERATION or kind in _HASHES or kind in _LOOKUPS:
        return "TFLite has no operation for it"
    if kind in ("Resizing", "UpSampling2D") and _interpolation(kind, config) not in _RESIZED:
        return f"TFLite resizes by nearest and bilinear, and not by {_interpolation(kind, config)}"
    return _draws(kind)


def _to_onnx(kind: str, config: Config) -> str | None:
    if kind in _HASHES or kind in _LOOKUPS or kind == "Discretization":
        return "ONNX has no operation for it"
    if kind == "Resizing" and _interpolation(kind, config) in ("lanczos3", "lanczos5", "gaussian"):
        return f"ONNX does not resize by {_interpolation(kind, config)}"
    if kind in ("Conv1D", "Conv2D", "Conv3D") and config.get("groups", 1) != 1:
        return "tf2onnx does not convert convolutions in groups"
    if config.get("activation") == "gelu":
        return "tf2onnx does not convert the activation gelu"
    return _draws(kind)


def _to_saved_model(kind: str) -> str | None:
    if kind in _LOOKUPS:
        return "its table is no part of what is exported"
    return _draws(kind)


def _draws(kind: str) -> str | None:
    return "its random numbers are no part of what is exported" if kind == "RandomCrop" else None


def _interpolation(kind: str, config: Config) -> str:
    default = "nearest" if kind == "UpSampling2D" else "bilinear"
    return str(config.get("interpolation", default))
