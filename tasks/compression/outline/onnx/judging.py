"""What a job would not take of an ONNX file that can be read."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.compression.outline.facts import Refusal
from tasks.compression.outline.onnx.message import STANDARD, Model, Node, Tensor, Value
from tasks.compression.outline.onnx.operators import ALLOWED, QUANTISED

__all__ = ["IR_VERSIONS", "OPSETS", "refusal"]

OPSETS = range(13, 27)
"""From the first whose DequantizeLinear has a scale for each channel, to the last that ONNX Runtime knows."""

IR_VERSIONS = range(3, 14)
"""Versions of the format, the last that ONNX Runtime reads."""

_COMPUTED_WITH = frozenset({"float32", "float64", "int32", "int64", "bool"})
_TAKEN = ("float32", "int32", "int64")
_PLAIN = "save the model before a runtime optimises it, with ONNX's own operators alone"
_FLOAT_FILE = "upload the float file that it was made from"


def refusal(model: Model) -> Refusal | None:
    """op_not_allowed, already_quantized, unsupported_model; None for a model that can be quantised."""
    return next((found for found in _refusals(model)), None)


def _refusals(model: Model) -> Iterator[Refusal]:
    for node in model.nodes:
        if (found := _of_node(node)) is not None:
            yield found
    constants = [*model.constants.values(), *_inner(model)]
    for constant in constants:
        if (found := _of_constant(constant)) is not None:
            yield found
    if model.annotated:
        yield _quantised("it has annotations of how its tensors are quantised")
    if model.opset not in OPSETS:
        yield _unfit(
            f"the .onnx is for version {model.opset} of ONNX's operators; taken are {OPSETS[0]} to "
            f"{OPSETS[-1]}",
            "export it for another: opset_version of the exporter, or onnx.version_converter.convert_version",
        )
    if model.ir_version not in IR_VERSIONS:
        yield _unfit(
            f"the .onnx has the version {model.ir_version} of the format; taken are {IR_VERSIONS[0]} to "
            f"{IR_VERSIONS[-1]}",
            "save it with another version of onnx: model.ir_version says which",
        )
    if not model.inputs or not model.outputs:
        yield _unfit("the .onnx has no inputs or no outputs", "export the model with its inputs and outputs")
    for value in model.inputs:
        if (found := _of_end("input", value)) is not None:
            yield found
    for value in model.outputs:
        if (found := _of_end("output", value)) is not None:
            yield found


def _of_node(node: Node) -> Refusal | None:
    called = node.name or None
    if node.domain not in STANDARD:
        return Refusal(
            code="op_not_allowed",
            detail=f"the .onnx has the operator {node.operator[:80]} of {node.domain[:80]!r}, which is not "
            "ONNX's",
            hint=_PLAIN,
            layer=called,
        )
    if node.operator in QUANTISED:
        return _quantised(f"it has the operator {node.operator}", called)
    if node.operator not in ALLOWED:
        return Refusal(
            code="op_not_allowed",
            detail=f"the .onnx has the operator {node.operator[:80]}, which is not allowed",
            hint="taken are operators that compute on tensors, without loops, branches, texts or chance",
            layer=called,
        )
    if node.operator == "BatchNormalization" and node.attributes.get("training_mode"):
        return _unfit("the .onnx was exported in training mode", "export it in evaluation mode: model.eval()")
    if node.operator == "Constant" and not {"value", *_NUMBERS} & {*node.attributes}:
        return _unfit("a constant of the .onnx holds no numbers", _PLAIN)
    return None


_NUMBERS = ("value_float", "value_floats", "value_int", "value_ints")


def _inner(model: Model) -> Iterator[Tensor]:
    return (value for node in model.nodes for value in node.attributes.values() if isinstance(value, Tensor))


def _of_constant(constant: Tensor) -> Refusal | None:
    if constant.dtype in _COMPUTED_WITH:
        return None
    what = f"the constant {constant.name[:80]!r} is of the type {constant.dtype}"
    if constant.dtype in ("string", "complex64", "complex128"):
        return _unfit(what, _PLAIN)
    return _quantised(what)


def _of_end(side: str, value: Value) -> Refusal | None:
    if value.dtype not in _TAKEN:
        what = f"is of the type {value.dtype}"
    elif (side == "input" and not _batched(value)) or (
        side == "output" and value.shape is not None and not _batched(value)
    ):
        what = f"has the shape {_told(value)}, whose first axis is not the samples"
    else:
        return None
    return _unfit(
        f"the {side} {value.name[:80]} of the .onnx {what}",
        "export it with float32, int32 or int64, and a first axis of any number of samples, or of one",
    )


def _batched(value: Value) -> bool:
    return bool(value.shape) and value.shape is not None and value.shape[0] in (None, 1)


def _told(value: Value) -> str:
    return "unknown" if value.shape is None else str(["any" if n is None else n for n in value.shape])


def _quantised(why: str, layer: str | None = None) -> Refusal:
    return Refusal(
        code="already_quantized",
        detail=f"the .onnx is quantised already: {why}",
        hint=_FLOAT_FILE,
        layer=layer,
    )


def _unfit(detail: str, hint: str) -> Refusal:
    return Refusal(code="unsupported_model", detail=detail, hint=hint)
