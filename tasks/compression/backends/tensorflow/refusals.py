"""Which model files are refused before anything is loaded: one place for the loader and for plans.

It imports no framework: Keras's own classes stand by name in keras2 and keras3.
"""

from __future__ import annotations

from tasks.compression.backends.tensorflow.config import KerasFile, refuse_foreign, refuse_unsafe
from tasks.compression.backends.tensorflow.keras2 import KNOWN_CLASSES
from tasks.compression.backends.tensorflow.keras3 import (
    no_graph,
    refuse_what_is_not_keras,
    refuse_without_counterpart,
)
from tasks.compression.errors import CompressionError

__all__ = [
    "KNOWN_CLASSES",
    "no_inputs",
    "refuse_file",
    "wrong_kind",
]


def refuse_file(file: KerasFile, *, has_inputs: bool) -> None:
    """CompressionError unsupported_model for what the loader refuses without looking at weights."""
    if file.major < 3:
        refuse_unsafe(file.model, KNOWN_CLASSES)
        refuse_foreign(file.model)
    else:
        refuse_what_is_not_keras(file.model)
    if not has_inputs:
        raise no_inputs() if file.major < 3 else no_graph()
    if file.major >= 3:
        refuse_without_counterpart(file.model)


def no_inputs() -> CompressionError:
    return CompressionError(
        "unsupported_model",
        "the model has no fixed input shape",
        hint="build it with an Input layer, or call it on a sample before saving",
    )


def wrong_kind(kind: str) -> CompressionError:
    """For a file that is no Keras model, by what tasks.compression.formats says of it."""
    what = {"zip": "an archive, but neither a Keras model nor a SavedModel"}
    return CompressionError(
        "unsupported_model" if kind in what else "bad_model",
        f"the file is {what.get(kind, 'no Keras model')}",
        hint="upload a model saved by model.save('model.keras') or model.save('model.h5'), the folder of a "
        "SavedModel in a zip or tar, or a float .tflite; of PyTorch one by featherweight.torch.save",
    )
