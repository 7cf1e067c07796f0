"""Quantises ``.onnx`` programs by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featherweight.spec import Quantize
from tasks.compression.errors import CompressionError
from tasks.compression.quantizing.onnx_kernels import DYNAMIC
from tasks.compression.quantizing.onnx_preparing import with_matrices_turned, with_norms_folded
from tasks.compression.samples import Tensors, arrays_of
from tasks.compression.silence import quiet

__all__ = ["plain", "quantized_program"]


def quantized_program(
    program: Any,
    step: Quantize,
    samples: Tensors | None,
    *,
    layers: Mapping[str, str],
    kept: Collection[str],
    inputs: Mapping[str, str],
) -> tuple[Any, dict[str, str]]:
    """`program`, a ModelProto, quantised, and the type of every layer's weights in it: in QDQ form with the
    ranges of `samples` under full_int8, int8 matrices with activations quantised while running under
    dynamic_int8, float16 weights and arithmetic.

    `layers` has the layer of nodes by their names; those in `kept` stay float. `inputs` are the names and
    types of the program's inputs, in the order of the samples' arrays. The program is rewritten for it.
    CompressionError conversion_failed.
    """
    import onnx

    if step.calibrates_ranges:
        with_norms_folded(program)
    elif step.scheme != "float16":
        with_matrices_turned(program)
    excluded = [node.name for node in program.graph.node if layers.get(node.name) in kept]
    # ONNX Runtime's own inference of shapes takes offence at some of it.
    del program.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "float.onnx", Path(folder) / "made.onnx"
        onnx.save(program, source)
        try:
            made = _made(source, target, step, samples, inputs, excluded)
        # ONNX Runtime and its tools raise ValueError, RuntimeError and classes of their own.
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            raise CompressionError(
                "conversion_failed",
                f"ONNX Runtime could not quantise the model: {text.splitlines()[0][:300]}",
                hint="leave out the output onnx, or choose another scheme",
            ) from error
    return made, _types(program, made, layers)


def plain(program: Any) -> None:
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


def _made(
    source: Path,
    target: Path,
    step: Quantize,
    samples: Tensors | None,
    inputs: Mapping[str, str],
    kept: list[str],
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
            op_types_to_quantize=list(DYNAMIC),
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
        _Reader(samples, inputs),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=kept,
    )
    return onnx.load(target)


class _Reader:
    """Samples one by one, as ONNX Runtime's calibrator asks for them."""

    def __init__(self, samples: Tensors, inputs: Mapping[str, str]) -> None:
        self._rows = self._each(samples, inputs)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)

    @staticmethod
    def _each(samples: Tensors, inputs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        columns = zip(inputs, arrays_of(samples), inputs.values(), strict=True)
        ready = [(name, np.ascontiguousarray(values, dtype=dtype)) for name, values, dtype in columns]
        for place in range(len(samples)):
            yield {name: values[place : place + 1] for name, values in ready}


def _types(program: Any, made: Any, layers: Mapping[str, str]) -> dict[str, str]:
    """By what became of the matrices that the nodes of each layer take."""
    import onnx

    floats = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE
    matrices = {
        item.name for item in program.graph.initializer if len(item.dims) > 1 and item.data_type in floats
    }
    stored = {item.name: item for item in made.graph.initializer}
    types: dict[str, set[str]] = {}
    for node in program.graph.node:
        for name in matrices.intersection(node.input):
            if node.name in layers:
                types.setdefault(layers[node.name], set()).add(_type(name, stored))
    return {layer: "+".join(sorted(found)) for layer, found in types.items()}


def _type(name: str, stored: Mapping[str, Any]) -> str:
    import onnx

    item = stored.get(name) or stored.get(f"{name}_quantized")
    if item is None:
        return "unknown"
    kinds = onnx.TensorProto
    narrow = {kinds.INT8: "int8", kinds.UINT8: "uint8", kinds.FLOAT16: "float16"}
    return narrow.get(item.data_type, "float32")
