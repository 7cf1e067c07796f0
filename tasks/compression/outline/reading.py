"""Reads the outline of a model file without a framework and without running anything of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.compression.backends.tensorflow.config import KerasFile
from tasks.compression.backends.tensorflow.keras3 import refuse_operations
from tasks.compression.backends.tensorflow.refusals import refuse_file, wrong_kind
from tasks.compression.errors import CompressionError
from tasks.compression.formats import model_format
from tasks.compression.outline.architecture import Architecture, architecture, input_names, output_names
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.facts import Call, Layer, Outline, Refusal, Weight

__all__ = ["read_outline"]


def read_outline(path: Path, bounds: Bounds | None = None) -> Outline:
    """Of a ``.keras``, ``.h5``, ``.tflite``, ``.onnx`` or ``.pt2`` file, or of a SavedModel's archive.

    What a job would refuse is in `refused`; CompressionError bad_model for files that cannot be read at all.
    """
    bounds = bounds or Bounds()
    kind = model_format(path)
    if kind == "tflite":
        from tasks.compression.outline.tflite import read_tflite

        return read_tflite(path.read_bytes(), bounds)
    if kind == "onnx":
        from tasks.compression.outline.onnx.reading import read_onnx

        return read_onnx(path.read_bytes(), bounds)
    if kind == "pt2":
        from tasks.compression.outline.pt2 import read_pt2

        return read_pt2(path, bounds)
    if kind not in ("keras_zip", "hdf5", "saved_model"):
        raise wrong_kind(kind)
    try:
        return _saved_model(path, bounds) if kind == "saved_model" else _keras(path, kind, bounds)
    except (CompressionError, MemoryError):
        raise
    # h5py, zipfile and json raise about anything for bytes that are not what they should be.
    except Exception as error:
        raise CompressionError(
            "bad_model",
            f"the model file is damaged or cut off: {error}"[:300],
            hint="save and upload it again",
        ) from error


def refusal(error: CompressionError) -> Refusal:
    return Refusal(code=error.code, detail=error.detail, hint=error.hint, layer=error.layer)


def _keras(path: Path, kind: str, bounds: Bounds) -> Outline:
    return _outline(path, kind, *(_zip(path, bounds) if kind == "keras_zip" else _legacy(path, bounds)))


def _saved_model(path: Path, bounds: Bounds) -> Outline:
    from tasks.compression.outline.saved_model.reading import read_saved_model

    found = read_saved_model(path, bounds)
    if found.network is not None:
        return _outline(path, "saved_model", *found.network, found.weights())
    signature = found.program.signature
    given = len(signature.inputs)
    return Outline(
        format="saved_model",
        framework="tensorflow",
        kind="graph",
        why=found.why,
        name=signature.name,
        bytes=path.stat().st_size,
        layers=found.variables(),
        tensors=tuple(spec.shape for spec in (*signature.inputs, *signature.outputs)),
        inputs=tuple(range(given)),
        outputs=tuple(range(given, given + len(signature.outputs))),
        input_names=tuple(spec.name for spec in signature.inputs),
        output_names=tuple(spec.name for spec in signature.outputs),
        traced=False,
        loops=found.program.loops,
    )


def _outline(
    path: Path, kind: str, file: KerasFile, built: Architecture, weights: Mapping[str, tuple[Weight, ...]]
) -> Outline:
    compiled = file.compiled()
    return Outline(
        format=kind,
        framework="tensorflow",
        keras=file.keras,
        name=built.top.name,
        bytes=path.stat().st_size,
        layers=tuple(
            Layer(
                path=layer.path,
                name=layer.name,
                kind=layer.kind,
                config=layer.config,
                weights=weights.get(layer.path, ()),
                listed=layer.listed,
            )
            for layer in _once(built)
        ),
        calls=tuple(
            Call(layer=layer, inputs=given, outputs=made, arguments=arguments, keywords=keywords)
            for layer, given, made, arguments, keywords in built.calls
        ),
        tensors=tuple(built.tensors),
        inputs=built.inputs,
        outputs=built.outputs,
        input_names=input_names(built.top) if built.inputs else (),
        output_names=output_names(built.top) if built.outputs else (),
        traced=built.traced,
        output_activation=_output_activation(built),
        loss=compiled.loss,
        has_optimizer_state=file.has_optimizer_state,
        refused=_refused(file, built, kind),
    )


def _once(built: Architecture) -> list[Any]:
    """A layer that is in two models of one path would come twice."""
    return list({layer.path: layer for layer in built.layers}.values())


def _refused(file: KerasFile, built: Architecture, kind: str) -> Refusal | None:
    try:
        refuse_file(file, has_inputs=built.has_inputs)
        if kind == "hdf5" and file.major >= 3:
            refuse_operations(file.model)
    except CompressionError as error:
        return refusal(error)
    return None


def _zip(path: Path, bounds: Bounds) -> tuple[KerasFile, Architecture, dict[str, tuple[Weight, ...]]]:
    import h5py

    from tasks.compression.outline.archive import Archive
    from tasks.compression.outline.stored import from_archive

    with Archive(path, bounds) as archive:
        config, metadata = archive.json("config.json"), archive.json("metadata.json")
        built = architecture(config, bounds)
        with h5py.File(archive.weights(), "r") as file:
            weights = from_archive(file, built.top, bounds)
            variables = file.get("optimizer/vars") if "optimizer" in file else None
            state = variables is not None and len(variables) > _PLAIN_OPTIMIZER_VARIABLES
    training = config.get("compile_config") or {}
    version = str(metadata.get("keras_version", "2"))
    return KerasFile(config, training, version, bool(training) and state), built, weights


def _legacy(path: Path, bounds: Bounds) -> tuple[KerasFile, Architecture, dict[str, tuple[Weight, ...]]]:
    import h5py

    from tasks.compression.outline.archive import parse_json
    from tasks.compression.outline.hdf5 import attribute_text, member, names
    from tasks.compression.outline.stored import from_legacy

    with h5py.File(path, "r") as file:
        text = attribute_text(file, "model_config", bounds)
        if text is None:
            raise CompressionError(
                "unsupported_model",
                "the HDF5 file holds weights without the model they belong to",
                hint="save the whole model: model.save('model.keras')",
            )
        config = parse_json(text, "model_config")
        training = parse_json(attribute_text(file, "training_config", bounds) or "{}", "training_config")
        version = attribute_text(file, "keras_version", bounds) or "2"
        built = architecture(config, bounds)
        weights = from_legacy(file, built.top, bounds)
        optimizer = member(file, "optimizer_weights")
        state = optimizer is not None and len(names(optimizer, "weight_names")) > _PLAIN_OPTIMIZER_VARIABLES
    return KerasFile(config, training, version, state), built, weights


_PLAIN_OPTIMIZER_VARIABLES = 2


def _output_activation(built: Architecture) -> str | None:
    """The activation of the layer that makes the first output; linear for a layer that has none."""
    if not built.outputs:
        return None
    maker = next((call[0] for call in reversed(built.calls) if built.outputs[0] in call[2]), None)
    layer = next((layer for layer in built.layers if layer.path == maker), None)
    if layer is None:
        return None
    if layer.kind == "Softmax":
        return "softmax"
    activation = layer.config.get("activation")
    return activation if isinstance(activation, str) else ("linear" if activation is None else None)
