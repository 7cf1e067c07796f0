"""Reads an uploaded Keras file. Its type is what its bytes say; nothing in it is run."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from featherweight.report import ReportWarning
from tasks.compression.backends.tensorflow._framework import keras, without_autograph
from tasks.compression.backends.tensorflow.bridge.files import read_keras3, read_with_keras3
from tasks.compression.backends.tensorflow.compiled import compiled_outputs
from tasks.compression.backends.tensorflow.config import KerasFile, read_config, refuse_foreign, refuse_unsafe
from tasks.compression.backends.tensorflow.network import Loaded, Network
from tasks.compression.backends.tensorflow.programs.loading import (
    Rebuilt,
    facts_of,
    load_saved_model,
    load_tflite,
)
from tasks.compression.backends.tensorflow.refusals import no_inputs, wrong_kind
from tasks.compression.errors import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts, OutputFacts, Shape
from tasks.compression.formats import model_format
from tasks.compression.remarks import remark

__all__ = ["load", "read_delivered", "read_model"]

_UNKNOWN = re.compile(r"Unknown (?:activation function|[a-z]+):? '?[\w.>]{1,100}'?")
_MODELS = {"Functional", "Model", "Sequential"}
# What the functional API writes for operations applied to tensors; and cells inside recurrent layers.
_OPERATIONS = {"ClassMethod", "InstanceMethod", "InstanceProperty", "SlicingOpLambda", "TFOpLambda"}


def load(path: Path, scratch: Path, warn: Callable[[ReportWarning], None]) -> Loaded:
    """A ``.keras`` or ``.h5`` file of Keras 2 or 3, the latter rebuilt for Keras 2; a SavedModel's archive or
    a float ``.tflite``. The compiled state is read for its loss and metrics, never restored.

    Raises CompressionError: bad_model for damaged files, unsupported_model for other kinds of files and
    for models that carry code, have classes of their own, or no fixed input.
    """
    kind = model_format(path)
    if kind in ("saved_model", "tflite"):
        return _load_program(path, kind, scratch, warn)
    if kind not in ("keras_zip", "hdf5"):
        raise wrong_kind(kind)
    file = read_config(path, kind)
    keras3 = file.major >= 3
    if keras3:
        model, difference = read_keras3(path, kind, file, scratch)
        warn(remark("rebuilt_from_keras3", version=file.keras, difference=difference))
    else:
        model = _build(path, kind, file, scratch)
    return _loaded(model, file, warn, keras3=keras3)


def _load_program(path: Path, kind: str, scratch: Path, warn: Callable[[ReportWarning], None]) -> Loaded:
    model = load_tflite(path) if kind == "tflite" else load_saved_model(path, scratch, warn)
    if isinstance(model, Rebuilt):
        return _loaded(model.model, model.file, warn, keras3=False)
    return Loaded(Network(model), facts_of(model))


def _loaded(model: Any, file: KerasFile, warn: Callable[[ReportWarning], None], *, keras3: bool) -> Loaded:
    facts = _facts(model, file)
    for part, why in facts.compiled.ignored:
        warn(remark("compiled_state_ignored", part=part, why=why))
    return Loaded(Network(model, keras3=keras3), facts)


def _facts(model: Any, file: KerasFile) -> ModelFacts:
    activations = [_activation(tensor) for tensor in model.outputs]
    names = tuple(model.output_names)
    compiled = file.compiled()
    each: tuple[OutputFacts, ...] = ()
    if len(names) > 1:
        each = tuple(map(OutputFacts, names, activations, compiled_outputs(file, names)))
        compiled = CompiledState(ignored=_ignored(each), has_optimizer_state=file.has_optimizer_state)
    return ModelFacts(
        _shapes(model.inputs),
        _shapes(model.outputs),
        activations[0],
        compiled,
        tuple(model.input_names),
        names,
        each,
        tuple(_entries(model, given) for given in model.inputs),
    )


def _entries(model: Any, given: Any) -> int | None:
    """Of an input that goes straight into embeddings, how many vectors the smallest of them has."""
    return min(
        (
            int(layer.input_dim)
            for layer in model.layers
            if isinstance(layer, keras.layers.Embedding)
            and any(tensor is given for node in layer.inbound_nodes for tensor in node.keras_inputs)
        ),
        default=None,
    )


@without_autograph  # type: ignore[untyped-decorator]
def read_model(path: Path) -> Any:
    """A file this backend wrote itself (``.keras``), uncompiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return keras.models.load_model(path, compile=False, safe_mode=True)


@without_autograph  # type: ignore[untyped-decorator]
def read_delivered(path: Path) -> Any:
    """A ``.keras`` output, in the Keras it was written for."""
    return read_with_keras3(path) if read_config(path, "keras_zip").major >= 3 else read_model(path)


def _build(path: Path, kind: str, file: KerasFile, scratch: Path) -> Any:
    refuse_unsafe(file.model, _known_classes())
    refuse_foreign(file.model)
    # tf_keras looks at the name's ending, and opens the file for writing too.
    copy = scratch / ("model.keras" if kind == "keras_zip" else "model.h5")
    shutil.copyfile(path, copy)
    try:
        model = _deserialise(copy)
    # Keras raises about anything for a file that contradicts itself.
    except Exception as error:
        raise _not_loaded(error) from error
    finally:
        copy.unlink()
    if not getattr(model, "inputs", None):
        raise no_inputs()
    return model


@without_autograph  # type: ignore[untyped-decorator]
def _deserialise(path: Path) -> Any:
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    # The argument safe_mode is not looked at for HDF5 files; the scope is.
    with warnings.catch_warnings(), SafeModeScope(True):
        warnings.simplefilter("ignore")
        return keras.models.load_model(path, compile=False)


def _known_classes() -> frozenset[str]:
    from tf_keras.src.engine.base_layer import Layer

    names = {
        name
        for name in dir(keras.layers)
        if isinstance(getattr(keras.layers, name), type) and issubclass(getattr(keras.layers, name), Layer)
    }
    return frozenset(names | _MODELS | _OPERATIONS)


def _not_loaded(error: Exception) -> CompressionError:
    unknown = _UNKNOWN.search(str(error))
    if unknown is not None:
        return CompressionError(
            "unsupported_model",
            f"Keras cannot load the model: {unknown[0]}",
            hint="classes and functions of one's own cannot be loaded here; use Keras' own",
        )
    return CompressionError(
        "bad_model", f"Keras cannot load the model: {_first_line(error)}", hint="save and upload it again"
    )


def _shapes(tensors: Any) -> tuple[Shape, ...]:
    return tuple(tuple(tensor.shape.as_list()[1:]) for tensor in tensors)


def _ignored(outputs: tuple[OutputFacts, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{part} of the output {output.name}", why)
        for output in outputs
        for part, why in output.compiled.ignored
    )


def _activation(tensor: Any) -> str | None:
    """The activation of the layer that makes the output; linear for a layer that has none."""
    history = tensor._keras_history
    while isinstance(history.layer, keras.Model):
        history = history.layer.outputs[history.tensor_index]._keras_history
    layer = history.layer
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    activation = getattr(layer, "activation", None)
    return getattr(activation, "__name__", None) if activation is not None else "linear"


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
