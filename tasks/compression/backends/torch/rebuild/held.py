"""What an exported program holds, and what its calls are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tasks.compression.backends.torch._framework import export, fx, nn, torch

__all__ = ["Call", "Held", "held_tensors", "transposed"]

_KINDS: dict[str, Literal["parameter", "buffer", "constant"]] = {
    "PARAMETER": "parameter",
    "BUFFER": "buffer",
    "CONSTANT_TENSOR": "constant",
}
_TRANSPOSING = {"aten.t.default", "aten.numpy_T.default"}


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor that the program holds, under its fully qualified name in the caller's model."""

    name: str
    kind: Literal["parameter", "buffer", "constant"]
    tensor: torch.Tensor


@dataclass(frozen=True)
class Call:
    """A call of an operator, with an argument for each name of the operator's schema."""

    node: fx.Node
    arguments: Mapping[str, Any]
    held: Mapping[fx.Node, Held]

    @classmethod
    def of(cls, node: fx.Node, held: Mapping[fx.Node, Held]) -> Call:
        """Defaults filled in. The target of `node` is an overload of an operator."""
        target: Any = node.target
        named = {
            each.name: each.default_value if each.has_default_value() else None
            for each in target._schema.arguments
        }
        named |= {each.name: value for each, value in zip(target._schema.arguments, node.args, strict=False)}
        return cls(node, named | dict(node.kwargs), held)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def parameter(self, name: str) -> Held | None:
        """The argument where it is a parameter of the model; None for anything else."""
        found = self.tensor(name)
        return found if found is not None and found.kind == "parameter" else None

    def tensor(self, name: str) -> Held | None:
        value = self.arguments[name]
        return self.held.get(value) if isinstance(value, fx.Node) else None

    def numbers(self, *names: str) -> bool:
        """Whether these arguments hold numbers alone, and none that depends on the input."""
        flat: list[fx.Node] = []
        for name in names:
            fx.map_arg(self.arguments[name], flat.append)
        return not flat

    def rank(self, name: str) -> int:
        """How many axes the argument has."""
        return int(self.arguments[name].meta["val"].ndim)


def held_tensors(program: export.ExportedProgram) -> dict[fx.Node, Held]:
    """The program's parameters, buffers and constants, by the placeholder they come in by."""
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    found = {}
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    for node in program.graph.nodes:
        spec = specs.get(node.name) if node.op == "placeholder" else None
        kind = None if spec is None else _KINDS.get(spec.kind.name)
        if spec is not None and kind is not None:
            value = _tensor(program, str(spec.target))
            # Weights of two names may be one: they have to go on being trained as one.
            place = (value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride())
            key = place if value.numel() else (node,)
            found[node] = Held(str(spec.target), kind, copies.setdefault(key, _copied(value)))
    return found


def _tensor(program: export.ExportedProgram, name: str) -> torch.Tensor:
    value = program.state_dict.get(name)
    return program.constants[name] if value is None else value


def _copied(value: torch.Tensor) -> torch.Tensor:
    copied = value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(value, nn.Parameter):
        return nn.Parameter(copied, requires_grad=value.requires_grad)
    return copied


def transposed(call: Call, name: str) -> Held | None:
    """The parameter that the argument is the transposed matrix of."""
    node = call.arguments[name]
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return None
    target, arguments = str(node.target), node.args
    swapped = target in _TRANSPOSING
    swapped |= target == "aten.permute.default" and list(arguments[1]) == [1, 0]
    swapped |= target == "aten.transpose.int" and set(arguments[1:]) in ({0, 1}, {-2, -1})
    of = arguments[0] if swapped else None
    found = call.held.get(of) if isinstance(of, fx.Node) else None
    return found if found is not None and found.kind == "parameter" and found.tensor.ndim == 2 else None
