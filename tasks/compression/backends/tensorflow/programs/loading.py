"""Reads SavedModels and float ``.tflite`` files: into networks without Keras layers, or back into Keras."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.report import ReportWarning
from tasks.compression.backends.tensorflow._framework import keras, tf, without_autograph
from tasks.compression.backends.tensorflow.bridge.comparison import TOLERANCE, apart, random_inputs
from tasks.compression.backends.tensorflow.config import KerasFile
from tasks.compression.backends.tensorflow.programs.naming import named
from tasks.compression.backends.tensorflow.programs.networks import FloatProgram, Graph, Layerless
from tasks.compression.errors import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts, OutputFacts
from tasks.compression.litert import Program
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Outline
from tasks.compression.outline.saved_model.members import members
from tasks.compression.outline.saved_model.reading import SavedModel, understood
from tasks.compression.outline.tflite import ACTIVATIONS, read_tflite
from tasks.compression.remarks import remark
from tasks.compression.samples import signature_names

__all__ = ["Rebuilt", "facts_of", "load_saved_model", "load_tflite"]

_FOLDER = "saved_model"
_HINT = "upload the network as a .keras file: model.save('model.keras')"


@dataclass(frozen=True)
class Rebuilt:
    """A Keras network built again from the configuration in a SavedModel."""

    model: Any
    file: KerasFile


def load_tflite(path: Path) -> FloatProgram:
    """CompressionError as the outline refuses it, bad_model for a file that LiteRT does not take."""
    content = path.read_bytes()
    outline = read_tflite(content, Bounds())
    if (why := outline.refused) is not None:
        raise CompressionError(why.code, why.detail, hint=why.hint, layer=why.layer)
    try:
        Program(content)
    except (RuntimeError, ValueError) as error:
        raise CompressionError(
            "bad_model", f"LiteRT does not run the .tflite: {_first_line(error)}", hint="upload it again"
        ) from error
    return FloatProgram(named(content, outline))


def load_saved_model(path: Path, scratch: Path, warn: Callable[[ReportWarning], None]) -> Graph | Rebuilt:
    """CompressionError as tasks.compression.outline.saved_model.reading refuses it; bad_model for one that
    TensorFlow cannot load; unsupported_model where the network built again does not answer as the file."""
    files = dict(members(path, Bounds()))
    found = understood(files, Bounds())
    folder = _unpacked(files, scratch / _FOLDER)
    graph = _graph(folder, found)
    if found.network is None:
        warn(remark("taken_as_graph", signature=graph.signature, why=found.why))
        return graph
    file, _ = found.network
    model = _built(file.model, folder)
    difference = _difference(model, graph)
    shutil.rmtree(folder)
    warn(remark("rebuilt_from_saved_model", difference=difference))
    return Rebuilt(model, file)


def facts_of(model: Layerless) -> ModelFacts:
    """Of the float ``.tflite`` that it is, or becomes."""
    outline = model.outline
    inputs, outputs = _named(model.input_names, outline, inputs=True), _named(model.output_names, outline)
    activations = _activations(outline)
    kinds = [activations.get(number, "linear") for number in outputs]
    each: tuple[OutputFacts, ...] = ()
    if len(outputs) > 1:
        each = tuple(
            OutputFacts(name, kind, CompiledState())
            for name, kind in zip(model.output_names, kinds, strict=True)
        )
    return ModelFacts(
        tuple((outline.tensors[number] or ())[1:] for number in inputs),
        tuple((outline.tensors[number] or ())[1:] for number in outputs),
        kinds[0],
        CompiledState(),
        model.input_names,
        model.output_names,
        each,
    )


def _named(names: tuple[str, ...], outline: Outline, *, inputs: bool = False) -> list[int]:
    """The tensors of a program that go by these names, which the converter may have made plainer."""
    numbers = outline.inputs if inputs else outline.outputs
    own = outline.input_names if inputs else outline.output_names
    if len(names) == 1:
        return [numbers[0]]
    by_name = dict(zip(own, numbers, strict=True))
    plain = dict(zip(names, signature_names(names), strict=True)) if set(names) != set(own) else {}
    return [by_name[plain.get(name, name)] for name in names]


def _activations(outline: Outline) -> dict[int, str]:
    kinds = {layer.path: layer.kind for layer in outline.layers}
    return {
        number: ACTIVATIONS.get(kinds[call.layer], "linear")
        for call in outline.calls
        for number in call.outputs
    }


def _unpacked(files: Mapping[str, bytes], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def _graph(folder: Path, found: SavedModel) -> Graph:
    signature = found.program.signature
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Graph(
                folder,
                signature.name,
                [spec.name for spec in signature.inputs],
                [spec.name for spec in signature.outputs],
                loops=found.program.loops,
            )
    # TensorFlow raises about anything for a file that contradicts itself.
    except Exception as error:
        raise CompressionError(
            "bad_model",
            f"TensorFlow cannot load the SavedModel: {_first_line(error)}",
            hint="save and upload it again",
        ) from error


@without_autograph  # type: ignore[untyped-decorator]
def _built(config: Mapping[str, Any], folder: Path) -> Any:
    """From the configuration, with the weights of the checkpoint. Functions in the file are left alone."""
    from tf_keras.src.saving.serialization_lib import SafeModeScope

    try:
        with warnings.catch_warnings(), SafeModeScope(True):
            warnings.simplefilter("ignore")
            model = keras.models.model_from_config(dict(config))
            status = model.load_weights(str(folder / "variables" / "variables"))
            status.assert_existing_objects_matched()
            status.expect_partial()
    # Keras raises about anything for a file that contradicts itself.
    except Exception as error:
        raise CompressionError(
            "bad_model", f"Keras cannot build the SavedModel's network: {_first_line(error)}", hint=_HINT
        ) from error
    return model


def _difference(model: Any, graph: Graph) -> float:
    """How far the answers of the network and of the SavedModel it was built from are apart, relative to the
    largest value of each output."""
    worst = 0.0
    ours = _matched(model.output_names, graph.output_names)
    order = _matched(model.input_names, graph.input_names)
    for batch in random_inputs(model, seed=0):
        outputs = model(batch if len(batch) > 1 else batch[0], training=False)
        answers = [np.asarray(part, np.float32) for part in _flat(outputs)]
        others = [np.asarray(part, np.float32) for part in graph([batch[place] for place in order])]
        for place, theirs in zip(ours, others, strict=True):
            worst = max(worst, apart(theirs, answers[place]))
    if not worst <= TOLERANCE:
        raise CompressionError(
            "unsupported_model",
            f"the network, built again from its Keras configuration, answers otherwise than the SavedModel "
            f"(by {worst:.2g} of its largest value)",
            hint=_HINT,
        )
    return worst


def _matched(names: Any, wanted: tuple[str, ...]) -> list[int]:
    """The places in `names` of the `wanted` ones."""
    known = list(names)
    if len(known) == len(wanted) == 1:
        return [0]
    if sorted(known) != sorted(wanted):
        raise CompressionError(
            "unsupported_model",
            f"the signature's names, {', '.join(wanted)[:200]}, are not the network's, "
            f"{', '.join(known)[:200]}",
            hint=_HINT,
        )
    return [known.index(name) for name in wanted]


def _flat(outputs: Any) -> list[Any]:
    return list(tf.nest.flatten(outputs))


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
