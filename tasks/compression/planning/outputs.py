"""Outputs that a network cannot be converted to, as far as its layers tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featherweight.spec import OutputFormat
from tasks.compression.backends.tensorflow.deliverable import CONVERTED, obstacle
from tasks.compression.backends.torch.plans import converted
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Layer, Outline
from tasks.compression.outline.onnx.operators import CONVERTIBLE
from tasks.compression.outputs import PROGRAMS

__all__ = ["OPEN_SIZES", "blocked", "has_open_sizes", "untried"]

OPEN_SIZES = "a model with inputs of open sizes"


def blocked(outline: Outline, output: OutputFormat) -> CompressionError | None:
    """conversion_failed for the first layer that the format has nothing for; None where none is known."""
    if outline.kind == "onnx" and output != "onnx":
        return _no_counterpart(outline)
    if outline.kind != "keras":
        return None
    for layer in outline.layers:
        for kind, config in _with_inner(layer):
            why = obstacle(kind, config, output)
            if why is not None:
                return CompressionError(
                    "conversion_failed",
                    f"the {kind} {layer.path} cannot be converted: {why}",
                    hint=f"leave out the output {output}, or replace the layer",
                    layer=layer.path,
                )
    return None


def _no_counterpart(outline: Outline) -> CompressionError | None:
    for layer in outline.layers:
        if layer.kind not in CONVERTIBLE:
            return CompressionError(
                "conversion_failed",
                f"the .onnx cannot be converted: the {layer.kind} {layer.path} has no counterpart here",
                hint="ask for the output onnx alone, or upload the PyTorch model that the file was exported "
                "from",
                layer=layer.path,
            )
    return None


def untried(outline: Outline, output: OutputFormat) -> list[str]:
    """The kinds of layers of which only the conversion tells whether the format takes them, or the graph."""
    if outline.kind == "graph" and output != "saved_model":
        return ["the graph"]
    if outline.kind == "onnx" and output != "onnx":
        return ["the .onnx"]
    if outline.kind == "pt2":
        return converted.untried(outline, output)
    if output == "keras" or outline.kind != "keras":
        return []
    kinds = {kind for layer in outline.layers for kind, _ in _with_inner(layer)}
    sizes = [OPEN_SIZES] if output in PROGRAMS and has_open_sizes(outline) else []
    return sorted(kinds - CONVERTED) + sizes


def has_open_sizes(outline: Outline) -> bool:
    """Whether an input has a size open beside the batch: LiteRT takes some such models, and not others."""
    shapes = [shape for shape in outline.shapes(outline.inputs) if shape is not None]
    return outline.kind == "keras" and any(None in shape[1:] for shape in shapes)


def _with_inner(layer: Layer) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The layer, and those it wraps."""
    yield layer.kind, layer.config
    for name in ("layer", "backward_layer", "cell"):
        inner = layer.config.get(name)
        if isinstance(inner, dict):
            config = inner.get("config")
            yield str(inner.get("class_name")), config if isinstance(config, dict) else {}
