"""Reads an uploaded exported program (``.pt2``) as a network of layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from featherweight.report import ReportWarning
from tasks.compression.backends.torch._framework import fx, nn
from tasks.compression.backends.torch.archive import load_archive
from tasks.compression.backends.torch.network import Loaded, Network
from tasks.compression.backends.torch.programs.loading import load_onnx
from tasks.compression.backends.torch.rebuild import Rebuilt, rebuild
from tasks.compression.errors import CompressionError
from tasks.compression.facts import CompiledState, ModelFacts, OutputFacts
from tasks.compression.formats import model_format
from tasks.compression.remarks import remark

__all__ = ["load", "output_activations"]

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ELU: "elu",
    nn.GELU: "gelu",
    nn.Hardsigmoid: "hard_sigmoid",
    nn.Hardswish: "hard_swish",
    nn.LeakyReLU: "leaky_relu",
    nn.LogSigmoid: "log_sigmoid",
    nn.LogSoftmax: "log_softmax",
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.SELU: "selu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Softmax: "softmax",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
}
_SHAPING = frozenset(
    f"aten.{name}"
    for name in (
        *("clone.default", "contiguous.default", "detach.default", "flatten.using_ints", "reshape.default"),
        *("squeeze.default", "squeeze.dim", "unsqueeze.default", "view.default", "_unsafe_view.default"),
    )
)
_MIXING = frozenset(
    (
        *("addbmm", "addmm", "addmv", "baddbmm", "bmm", "einsum", "linear", "matmul", "mm", "mv"),
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("convolution", "embedding", "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_tanh"),
        *("rnn_relu_cell", "rnn_tanh_cell"),
    )
)
"""What multiplies by matrices: layers elsewhere."""


def load(path: Path, scratch: Path, warn: Callable[[ReportWarning], None]) -> Loaded:
    """A ``.pt2`` of ``torch.export.save``, rebuilt layer by layer and compared with what it was; or an
    ``.onnx``, as it is.

    Raises CompressionError: bad_model for damaged files, unsupported_model for other kinds of files, for
    programs of another PyTorch, with a fixed batch, in training mode, and for whatever the archive's check or
    the rebuilding refuses.
    """
    kind = model_format(path)
    if kind == "onnx":
        return load_onnx(path)
    if kind != "pt2":
        raise CompressionError(
            "unsupported_model",
            "the file is no exported program of PyTorch",
            hint="upload what featherweight.torch.save(model, example_inputs, path) writes",
        )
    program, names = load_archive(path)
    rebuilt = rebuild(program, names)
    _remark_on(rebuilt, warn)
    return Loaded(Network(rebuilt.model, rebuilt.signature), _facts(rebuilt))


def _remark_on(rebuilt: Rebuilt, warn: Callable[[ReportWarning], None]) -> None:
    if rebuilt.difference > 0:
        warn(remark("rebuilt_from_program", difference=rebuilt.difference))
    for operator, parameter in rebuilt.functions:
        if operator.split(".")[1].strip("_") in _MIXING:
            warn(remark("kept_as_function", layer=parameter, operator=operator, parameter=parameter))


def _facts(rebuilt: Rebuilt) -> ModelFacts:
    signature = rebuilt.signature
    activations = output_activations(rebuilt.model)
    several = len(activations) > 1
    each = (
        tuple(
            OutputFacts(name, activation, CompiledState())
            for name, activation in zip(signature.output_names, activations, strict=True)
        )
        if several
        else ()
    )
    return ModelFacts(
        signature.input_shapes,
        rebuilt.output_shapes,
        activations[0],
        CompiledState(),
        signature.input_names,
        signature.output_names,
        each,
        rebuilt.input_ranges,
    )


def output_activations(model: fx.GraphModule) -> tuple[str, ...]:
    """Of each output, what its last layer applies; linear for a layer that is no activation."""
    (answer,) = next(node for node in model.graph.nodes if node.op == "output").args
    outputs = [answer] if isinstance(answer, fx.Node) else list(answer)
    return tuple(_activation(model, node) for node in outputs if isinstance(node, fx.Node))


def _activation(model: fx.GraphModule, node: fx.Node) -> str:
    while True:
        layer = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        passing = isinstance(layer, nn.Dropout) or (
            node.op == "call_function" and str(node.target) in _SHAPING
        )
        source = node.args[0] if node.args else None
        if not passing or not isinstance(source, fx.Node):
            return _ACTIVATIONS.get(type(layer), "linear") if layer is not None else _function(node)
        node = source


def _function(node: fx.Node) -> str:
    """Of activations that were no layers, as those along an axis that depends on the input."""
    name = str(node.target).split(".")[1] if str(node.target).startswith("aten.") else ""
    return {"_softmax": "softmax", "_log_softmax": "log_softmax"}.get(
        name, name if name in _ACTIVATIONS.values() else "linear"
    )
