"""A good ``.onnx`` of one dense layer, written byte by byte, and ones that attack whoever loads them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.gate.other_models import field

__all__ = ["FILES", "attribute", "dense", "model", "node", "tensor", "value"]

Make = Callable[[Path, Path], bytes]

FLOAT, INT8, INT64, STRING, FLOAT16 = 1, 3, 7, 8, 10


def many(number: int, parts: Iterable[bytes | str | int]) -> bytes:
    return b"".join(field(number, part) for part in parts)


def signed(value: int) -> int:
    return value & 0xFFFFFFFFFFFFFFFF


def tensor(name: str, *dims: int, raw: bytes | None = None, kind: int = FLOAT, more: bytes = b"") -> bytes:
    """A constant, of zeros where there is nothing said of its bytes."""
    size = 1
    for each in dims:
        size *= each
    content = raw if raw is not None else b"\0" * (size * {INT8: 1, FLOAT16: 2, INT64: 8}.get(kind, 4))
    return many(1, map(signed, dims)) + field(2, kind) + field(8, name) + field(9, content) + more


def attribute(name: str, kind: int, number: int, value: Any) -> bytes:
    return field(1, name) + field(number, value) + field(20, kind)


def node(
    operator: str, given: Iterable[str], made: Iterable[str], *attributes: bytes, **options: Any
) -> bytes:
    domain, more = options.get("domain", ""), options.get("more", b"")
    named = field(3, options["name"]) if "name" in options else b""
    return (
        many(1, given)
        + many(2, made)
        + named
        + field(4, operator)
        + many(5, attributes)
        + (field(7, domain) if domain else b"")
        + more
    )


def value(name: str, *dims: int | str, kind: int = FLOAT) -> bytes:
    sizes = many(1, (field(2, each) if isinstance(each, str) else field(1, signed(each)) for each in dims))
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))


def model(
    nodes: Iterable[bytes],
    constants: Iterable[bytes] = (),
    inputs: Iterable[bytes] = (),
    outputs: Iterable[bytes] = (),
    **options: Any,
) -> bytes:
    graph = many(1, nodes) + field(2, "main") + many(5, constants) + many(11, inputs) + many(12, outputs)
    graph += options.get("in_graph", b"")
    head = field(1, options.get("ir", 8)) + field(2, options.get("producer", "tests"))
    opset = field(8, field(1, "") + field(2, options.get("opset", 17)))
    return head + field(7, graph) + opset + options.get("more", b"")


WEIGHTS = struct.pack("<12f", *(each / 8 - 0.7 for each in range(12)))
TRANSPOSED = attribute("transB", 2, 3, 1)


def dense(**changes: Any) -> bytes:
    """relu(x W' + b) of four numbers to three."""
    parts: dict[str, Any] = {
        "nodes": [
            node("Gemm", ["x", "w", "b"], ["h"], TRANSPOSED, name="fc"),
            node("Relu", ["h"], ["y"]),
        ],
        "constants": [tensor("w", 3, 4, raw=WEIGHTS), tensor("b", 3)],
        "inputs": [value("x", "batch", 4)],
        "outputs": [value("y", "batch", 3)],
        **changes,
    }
    return model(
        parts.pop("nodes"), parts.pop("constants"), parts.pop("inputs"), parts.pop("outputs"), **parts
    )


def _with(*extra: bytes) -> Make:
    """The good file, whose nodes have others between them."""
    return lambda *_: dense(nodes=[node("Gemm", ["x", "w", "b"], ["h"], TRANSPOSED), *extra])


def _constant(*dims: int, **options: Any) -> Make:
    return lambda *_: dense(constants=[tensor("w", *dims, **options), tensor("b", 3)])


def _elsewhere(canary: Path) -> bytes:
    place = field(1, "location") + field(2, f"../../../..{canary}")
    return field(13, place)


def _inner(depth: int) -> bytes:
    """A node with a branch in which is a node with a branch ..."""
    found = node("Relu", ["x"], ["y"])
    for _ in range(depth):
        found = node("If", ["x"], ["y"], attribute("then_branch", 5, 6, field(1, found)))
    return found


def _sequence(*_: Path) -> bytes:
    of = field(1, "x") + field(2, field(4, field(1, field(1, field(1, FLOAT)))))
    return dense(inputs=[of])


FILES: dict[str, tuple[str, Make]] = {
    "onnx_external": (
        "unsupported_model",
        lambda canary, _: dense(
            constants=[tensor("w", 3, 4, raw=b"", more=_elsewhere(canary) + field(14, 1)), tensor("b", 3)]
        ),
    ),
    "onnx_external_unsaid": (
        "unsupported_model",
        lambda canary, _: dense(constants=[tensor("w", 3, 4, more=_elsewhere(canary)), tensor("b", 3)]),
    ),
    "onnx_external_in_a_node": (
        "unsupported_model",
        lambda canary, _: dense(
            nodes=[
                node(
                    "Constant", [], ["w"], attribute("value", 4, 5, tensor("", 3, 4, more=_elsewhere(canary)))
                ),
                node("Gemm", ["x", "w", "b"], ["y"], TRANSPOSED),
            ],
            constants=[tensor("b", 3)],
        ),
    ),
    "onnx_custom_domain": ("op_not_allowed", _with(node("Relu", ["h"], ["y"], domain="com.stranger"))),
    "onnx_contrib": ("op_not_allowed", _with(node("FusedGemm", ["h"], ["y"], domain="com.microsoft"))),
    "onnx_no_operator": ("op_not_allowed", _with(node("ReadFile", ["h"], ["y"]))),
    "onnx_chance": ("op_not_allowed", _with(node("RandomNormalLike", ["h"], ["y"]))),
    "onnx_text": ("op_not_allowed", _with(node("StringNormalizer", ["h"], ["y"]))),
    "onnx_loop": (
        "unsupported_model",
        _with(node("Loop", ["h"], ["y"], attribute("body", 5, 6, field(1, node("Relu", ["a"], ["b"]))))),
    ),
    "onnx_deep": ("unsupported_model", lambda *_: dense(nodes=[_inner(200)])),
    "onnx_function": (
        "unsupported_model",
        lambda *_: dense(
            more=field(25, field(1, "Relu") + field(10, "") + field(7, node("Exp", ["a"], ["b"])))
        ),
    ),
    "onnx_training": ("unsupported_model", lambda *_: dense(more=field(20, b""))),
    "onnx_sparse": ("unsupported_model", lambda *_: dense(in_graph=field(15, b""))),
    "onnx_sequence": ("unsupported_model", _sequence),
    "onnx_strings": ("unsupported_model", _constant(3, 4, raw=b"", kind=STRING)),
    "onnx_short": ("bad_model", _constant(3, 4, raw=WEIGHTS[:-4])),
    "onnx_long": ("bad_model", _constant(3, 3, raw=WEIGHTS)),
    "onnx_two_contents": ("bad_model", _constant(3, 4, raw=WEIGHTS, more=field(4, WEIGHTS))),
    "onnx_negative": ("bad_model", _constant(-3, -4, raw=WEIGHTS)),
    "onnx_huge": ("model_too_large", _constant(1 << 40, 1 << 40, raw=b"")),
    "onnx_overflow": ("model_too_large", _constant((1 << 62) + 1, 4, raw=b"\0" * 16)),
    "onnx_negative_input": ("bad_model", lambda *_: dense(inputs=[value("x", "batch", -4)])),
    "onnx_two_operators": ("bad_model", _with(node("Relu", ["h"], ["y"], more=field(4, "ReadFile")))),
    "onnx_two_graphs": ("bad_model", lambda *_: dense(more=field(7, b""))),
    "onnx_unknown_field": ("bad_model", lambda *_: dense(more=field(77, b"\0"))),
    "onnx_metadata": ("bad_model", lambda *_: dense(more=field(14, b"\x0a\x7fclasses"))),
    "onnx_two_constants": (
        "bad_model",
        lambda *_: dense(constants=[tensor("w", 3, 4), tensor("w", 3, 4), tensor("b", 3)]),
    ),
    "onnx_cycle": (
        "bad_model",
        lambda *_: dense(nodes=[node("Add", ["x", "y"], ["h"]), node("Relu", ["h"], ["y"])]),
    ),
    "onnx_no_output": ("bad_model", _with()),
    "onnx_truncated": ("bad_model", lambda *_: dense()[:-40]),
    "onnx_quantised": (
        "already_quantized",
        _with(node("QuantizeLinear", ["h", "b"], ["q"]), node("DequantizeLinear", ["q", "b"], ["y"])),
    ),
    "onnx_int8": ("already_quantized", _constant(3, 4, kind=INT8)),
    "onnx_float16": ("already_quantized", _constant(3, 4, kind=FLOAT16)),
    "onnx_old": ("unsupported_model", lambda *_: dense(opset=9)),
    "onnx_new": ("unsupported_model", lambda *_: dense(opset=99)),
    "onnx_fixed_batch": ("unsupported_model", lambda *_: dense(inputs=[value("x", 8, 4)])),
}
