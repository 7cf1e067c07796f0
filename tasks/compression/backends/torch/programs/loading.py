"""Reads an uploaded ``.onnx`` as a network that is quantised and delivered as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tasks.compression.backends.torch.network import Loaded, Network, Signature
from tasks.compression.backends.torch.programs.networks import OnnxNetwork
from tasks.compression.errors import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts, OutputFacts, Shape
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.judging import refusal
from tasks.compression.outline.onnx.message import Model, read_model
from tasks.compression.outline.onnx.reading import activations_of, constants_of, is_constant, names_of
from tasks.compression.samples import Array, arrays_of, gathered

__all__ = ["load_onnx"]

_BATCH = 2


def load_onnx(path: Path) -> Loaded:
    """CompressionError as the outline refuses it; unsupported_model for a file that ONNX Runtime does not
    run, or whose outputs are not one for each sample."""
    content = path.read_bytes()
    model = read_model(content, Bounds())
    if (why := refusal(model)) is not None:
        raise CompressionError(why.code, why.detail, hint=why.hint, layer=why.layer)
    network = OnnxNetwork(_settled(content, model))
    signature = Signature(
        input_names=tuple(value.name for value in model.inputs),
        input_shapes=tuple((value.shape or ())[1:] for value in model.inputs),
        input_dtypes=tuple(value.dtype or "" for value in model.inputs),
        output_names=tuple(value.name for value in model.outputs),
    )
    return Loaded(Network(network, signature), _facts(model, signature, _output_shapes(network, signature)))


def _settled(content: bytes, model: Model) -> bytes:
    """The program with a name for every node and with all its constants as initialisers, which is where ONNX
    Runtime's quantiser looks for weights."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        program = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise CompressionError(
            "bad_model", f"ONNX cannot read the file: {str(error)[:200]}", hint="export it again"
        ) from error
    graph = program.graph
    constants, outputs = constants_of(model), {value.name for value in model.outputs}
    held = {item.name for item in graph.initializer}
    aliases: dict[str, str] = {}
    kept: list[Any] = []
    for node, name, told in zip(graph.node, names_of(model), model.nodes, strict=True):
        made = told.outputs[0] if told.outputs else ""
        if is_constant(told, constants) and made not in outputs:
            if told.operator == "Constant":
                item = graph.initializer.add()
                item.CopyFrom(node.attribute[0].t)
                item.name = made
            else:
                aliases[made] = aliases.get(told.inputs[0], told.inputs[0])
            continue
        node.name = name
        node.input[:] = [aliases.get(each, each) for each in node.input]
        kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)
    inputs = [item for item in graph.input if item.name not in held]
    if len(inputs) != len(graph.input):  # as older files have their weights
        copies = [onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in inputs]
        del graph.input[:]
        graph.input.extend(copies)
        program.ir_version = max(program.ir_version, 4)
    settled: bytes = program.SerializeToString(deterministic=True)
    return settled


def _output_shapes(network: OnnxNetwork, signature: Signature) -> tuple[Shape, ...]:
    """Of one sample: as they come out of a run where that can be tried, else as far as they can be told."""
    try:
        program = OnnxProgram(network.content)
        if any(None in shape for shape in signature.input_shapes):
            return tuple((shape or ())[1:] for shape in network.outline.shapes(network.outline.outputs))
        size = _BATCH if network.outline.shapes(network.outline.inputs)[0][:1] == (None,) else 1  # type: ignore[index]
        zeros = [
            np.zeros((size, *(length or 1 for length in shape)), dtype)
            for shape, dtype in zip(signature.input_shapes, signature.input_dtypes, strict=True)
        ]
        answers = arrays_of(program.predict(gathered(signature.input_names, zeros)))
    except ValueError as error:
        raise CompressionError(
            "unsupported_model",
            f"ONNX Runtime does not run the .onnx: {error}",
            hint="export the model with a first axis of any number of samples, for operators that ONNX "
            "Runtime has on the CPU",
        ) from error
    for name, answer in zip(signature.output_names, answers, strict=True):
        _check_answer(name, answer, size)
    return tuple(answer.shape[1:] for answer in answers)


def _check_answer(name: str, answer: Array, samples: int) -> None:
    if answer.shape[:1] != (samples,):
        raise CompressionError(
            "unsupported_model",
            f"the output {name[:80]} of the .onnx has the shape {answer.shape} for {samples} samples: its "
            "first axis is not the samples",
            hint="export it with a first axis of any number of samples, or of one",
        )


def _facts(model: Model, signature: Signature, outputs: tuple[Shape, ...]) -> ModelFacts:
    activations = activations_of(model)
    each: tuple[OutputFacts, ...] = ()
    if len(activations) > 1:
        each = tuple(
            OutputFacts(name, activation, CompiledState())
            for name, activation in zip(signature.output_names, activations, strict=True)
        )
    return ModelFacts(
        signature.input_shapes,
        outputs,
        activations[0],
        CompiledState(),
        signature.input_names,
        signature.output_names,
        each,
    )
