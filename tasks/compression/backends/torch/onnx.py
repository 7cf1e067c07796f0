"""``.onnx`` files, by PyTorch's exporter; quantised by ONNX Runtime."""

from __future__ import annotations

import ast
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.spec import Quantize
from tasks.compression.backends.torch._framework import torch
from tasks.compression.backends.torch.converting import examples, quiet, with_layers_told
from tasks.compression.backends.torch.exported import open_batch
from tasks.compression.backends.torch.layers import copied, placed_layers
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.refusals import refusal
from tasks.compression.samples import Tensors, arrays_of

__all__ = ["quantized_onnx", "write_onnx"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_DYNAMIC = ["MatMul", "Gemm", "LSTM", "Gather", "Attention"]
"""What ONNX Runtime has kernels for that quantise activations while running: its ConvInteger takes no int8
weights on the CPU."""


def write_onnx(network: Network, path: Path) -> None:
    """The float model with an open batch, inputs and outputs by their names; equal models make equal files.

    CompressionError conversion_failed for a model that ONNX has no operations for."""
    program = _program(network)
    _plain(program)
    path.write_bytes(program.SerializeToString(deterministic=True))


def quantized_onnx(
    network: Network, step: Quantize, samples: Tensors | None, kept: Collection[str]
) -> tuple[bytes, dict[str, str]]:
    """The file, and the type of every layer's weights in it: in QDQ form with the ranges of `samples` under
    full_int8, int8 matrices with activations quantised while running under dynamic_int8, float16 weights and
    arithmetic. Layers in `kept` stay float. CompressionError conversion_failed."""
    import onnx

    program = _program(network)
    layers = _layers(program, network)
    _plain(program)
    excluded = [node.name for node in program.graph.node if layers.get(node.name) in kept]
    del program.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "made.onnx"
        onnx.save(program, source)
        try:
            made = _made(source, target, step, samples, network, excluded)
        # ONNX Runtime and its tools raise ValueError, RuntimeError and classes of their own.
        except Exception as error:
            raise refusal(
                "ONNX Runtime could not quantise the model",
                network,
                error,
                ("onnx",),
                hint="leave out the output onnx, or choose another scheme",
            ) from error
    _plain(made)
    return made.SerializeToString(deterministic=True), _types(program, made, layers)


def _program(network: Network) -> Any:
    import onnx

    given = examples(network.signature, batch=2)
    model = with_layers_told(copied(network.model).eval())
    try:
        with quiet():
            made: Any = torch.onnx.export(
                model,
                given,
                dynamo=True,
                dynamic_shapes=open_batch(network.signature),
                input_names=list(network.signature.input_names),
                output_names=list(network.signature.output_names),
                verbose=False,
            )
            found = made.model_proto
            onnx.checker.check_model(found)
    # The exporter raises classes of its own, the checker another, and both what is below them.
    except Exception as error:
        raise refusal("the model cannot be written as ONNX", network, error, ("onnx",)) from error
    return found


def _plain(program: Any) -> None:
    """Take out what says where and from which source the program was made."""
    program.producer_version = program.doc_string = ""
    del program.metadata_props[:]
    for graph in (program.graph, *program.functions):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for item in (*program.graph.value_info, *program.graph.input, *program.graph.output):
        del item.metadata_props[:]
    for item in program.graph.initializer:
        del item.metadata_props[:]


def _layers(program: Any, network: Network) -> dict[str, str]:
    """The layer of every node that came from one: that of its weights, which keep their names, or else the
    innermost that it says it was made in."""
    paths = {place.path for place in placed_layers(network.model)}
    found: dict[str, str] = {}
    for node in program.graph.node:
        told = next((item.value for item in node.metadata_props if item.key == _SCOPES), "[]")
        names = [name.rpartition(".")[0] for name in node.input]
        names += [str(name) for name in reversed(ast.literal_eval(told))]
        scope = next((name for name in names if name in paths), None)
        if scope is not None:
            found[node.name] = scope
    return found


def _made(
    source: Path, target: Path, step: Quantize, samples: Tensors | None, network: Network, kept: list[str]
) -> Any:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.transformers.float16 import convert_float_to_float16

    per_channel = step.granularity == "per_channel"
    if step.scheme == "float16":
        return convert_float_to_float16(onnx.load(source), keep_io_types=True, node_block_list=kept)
    if not step.calibrates_ranges:
        quantization.quantize_dynamic(
            source,
            target,
            op_types_to_quantize=_DYNAMIC,
            per_channel=per_channel,
            weight_type=quantization.QuantType.QInt8,
            # A Gemm becomes a MatMul of another name first.
            nodes_to_exclude=[*kept, *(f"{name}_MatMul" for name in kept)],
        )
        return onnx.load(target)
    assert samples is not None
    quantization.quantize_static(
        source,
        target,
        _Reader(samples, network),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=kept,
    )
    return onnx.load(target)


class _Reader:
    """Samples one by one, as ONNX Runtime's calibrator asks for them."""

    def __init__(self, samples: Tensors, network: Network) -> None:
        self._rows = self._each(samples, network)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)

    @staticmethod
    def _each(samples: Tensors, network: Network) -> Iterator[dict[str, Any]]:
        told = network.signature
        columns = zip(told.input_names, arrays_of(samples), told.input_dtypes, strict=True)
        ready = [(name, np.ascontiguousarray(values, dtype=dtype)) for name, values, dtype in columns]
        for place in range(len(samples)):
            yield {name: values[place : place + 1] for name, values in ready}


def _types(program: Any, made: Any, layers: dict[str, str]) -> dict[str, str]:
    """By what became of the matrices that the nodes of each layer take."""
    matrices = {item.name for item in program.graph.initializer if len(item.dims) > 1}
    stored = {item.name: item for item in made.graph.initializer}
    types: dict[str, set[str]] = {}
    for node in program.graph.node:
        for name in matrices.intersection(node.input):
            if node.name in layers:
                types.setdefault(layers[node.name], set()).add(_type(name, stored))
    return {layer: "+".join(sorted(found)) for layer, found in types.items()}


def _type(name: str, stored: dict[str, Any]) -> str:
    import onnx

    item = stored.get(name) or stored.get(f"{name}_quantized")
    if item is None:
        return "unknown"
    return {onnx.TensorProto.INT8: "int8", onnx.TensorProto.FLOAT16: "float16"}.get(item.data_type, "float32")
