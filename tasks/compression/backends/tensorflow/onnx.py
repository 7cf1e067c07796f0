"""``.onnx`` files, by tf2onnx."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.compression.backends.tensorflow._framework import without_autograph
from tasks.compression.backends.tensorflow.inference import served
from tasks.compression.backends.tensorflow.onnx_names import graphs_of, settle
from tasks.compression.errors import CompressionError

__all__ = ["OPSET", "write_onnx"]

OPSET = 15
"""tf2onnx' own choice, of 2021: runtimes of that age and younger take it."""

_STANDARD = ("", "ai.onnx", "ai.onnx.ml")


@without_autograph  # type: ignore[untyped-decorator]
def write_onnx(model: Any, path: Path) -> None:
    """The float model at opset `OPSET`, inputs and outputs by their names; equal models make equal files.

    CompressionError conversion_failed for a model that ONNX has no operations for.
    """
    import onnx
    from tf2onnx import convert

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = served(model).serve
            program, _ = convert.from_function(
                function, input_signature=list(function.input_signature), opset=OPSET
            )
        given = {spec.name for spec in function.input_signature}
        if len(program.graph.input) > len(given):
            raise ValueError("its function is bound to tensors that are no variables")
        settle(program.graph)
        foreign = sorted({node.op_type for node in _nodes(program.graph) if node.domain not in _STANDARD})
        if foreign:
            raise ValueError(f"ONNX has no operation for {', '.join(foreign)}")
        onnx.checker.check_model(program)
    # tf2onnx and the checker raise classes of their own, ValueError, RuntimeError, KeyError and more.
    except Exception as error:
        raise CompressionError(
            "conversion_failed",
            f"the model cannot be written as ONNX: {_first_line(error)}",
            hint="leave out the output onnx",
        ) from error
    path.write_bytes(program.SerializeToString(deterministic=True))


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for inner in graphs_of(node):
            yield from _nodes(inner)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
