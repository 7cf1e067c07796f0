"""Whether a network answers as the program it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.compression.backends.torch._framework import export, fx, torch
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.rebuild.signature import Ends
from tasks.compression.errors import CompressionError

__all__ = ["check_answers", "random_inputs"]

_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
_SAMPLES = (2, 3)
_SEED = 20


def random_inputs(
    signature: Signature, ranges: Sequence[int | None], count: int, seed: int = _SEED
) -> tuple[torch.Tensor, ...]:
    """`count` samples: normally distributed numbers, and integers below their range."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape, dtype, below in zip(signature.input_shapes, signature.input_dtypes, ranges, strict=True):
        size = (count, *(1 if each is None else each for each in shape))
        if below is None:
            found.append(torch.randn(size, generator=generator))
        else:
            integers = torch.randint(0, below, size, generator=generator)
            found.append(integers.to(getattr(torch, dtype)))
    return tuple(found)


def check_answers(
    program: export.ExportedProgram,
    model: fx.GraphModule,
    ends: Ends,
    ranges: Sequence[int | None],
    made: Mapping[str, fx.Node],
) -> float:
    """The largest difference of the answers, against the largest answer; on seeded samples, in two batches.

    `made` says which of the program's nodes a node of the network was made of. CompressionError
    unsupported_model where the answers differ by more than 1e-4 of an answer and 1e-5, with the layer where
    they first do.
    """
    worst = 0.0
    for count in _SAMPLES:
        inputs = random_inputs(ends.signature, ranges, count, _SEED + count)
        wanted = _Recording(program.graph_module, set(ends.outputs))
        try:
            _run_program(wanted, program, ends, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise CompressionError(
                "bad_model",
                f"the exported program cannot be run on {count} samples: {str(error).splitlines()[0][:200]}",
                hint="export and upload it again",
            ) from error
        expected = [wanted.values[name] for name in ends.outputs]
        with torch.no_grad():
            answered = model(*(each.clone() for each in inputs))
        answers = answered if isinstance(answered, tuple) else (answered,)
        if not all(map(_close, answers, expected)):
            raise _differing(program, model, ends, inputs, made)
        worst = max(worst, *map(_difference, answers, expected))
    return worst


class _Recording(fx.Interpreter):  # type: ignore[misc]
    """Keeps copies of what the nodes of these names are, as they are when they were just computed."""

    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self._names = names
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self._names and isinstance(value, torch.Tensor):
            self.values[n.name] = value.detach().clone()
        return value


def _run_program(
    recording: _Recording, program: export.ExportedProgram, ends: Ends, inputs: Sequence[torch.Tensor]
) -> None:
    by_name = dict(zip(ends.inputs, inputs, strict=True))
    given: list[Any] = []
    for spec in program.graph_signature.input_specs:
        name, target = str(getattr(spec.arg, "name", "")), str(spec.target)
        if name in by_name:
            given.append(by_name[name].clone())
        elif spec.kind.name == "USER_INPUT":
            given.append(getattr(spec.arg, "value", None))
        else:
            value: Any = program.state_dict.get(target)
            given.append((program.constants[target] if value is None else value).detach())
    with torch.no_grad():
        recording.run(*given)


def _close(answer: torch.Tensor, expected: torch.Tensor) -> bool:
    if answer.shape != expected.shape:
        return False
    return bool(torch.allclose(answer, expected, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True))


def _difference(answer: torch.Tensor, expected: torch.Tensor) -> float:
    if answer.numel() == 0:
        return 0.0
    scale = float(expected.abs().max())
    return float((answer - expected).abs().max()) / scale if scale > 0 else 0.0


def _differing(
    program: export.ExportedProgram,
    model: fx.GraphModule,
    ends: Ends,
    inputs: Sequence[torch.Tensor],
    made: Mapping[str, fx.Node],
) -> CompressionError:
    wanted = _Recording(program.graph_module, {node.name for node in made.values()})
    _run_program(wanted, program, ends, inputs)
    found = _Recording(model, set(made))
    with torch.no_grad():
        found.run(*(each.clone() for each in inputs))
    place = next(
        (
            node
            for node in model.graph.nodes
            if node.name in found.values
            and (expected := wanted.values.get(made[node.name].name)) is not None
            and not _close(found.values[node.name], expected)
        ),
        None,
    )
    layer = None if place is None else str(place.target)
    where = "" if layer is None else f", first at {layer}"
    return CompressionError(
        "unsupported_model",
        f"rebuilt as layers, the model does not answer as its exported program does{where}",
        hint="this is a limit of the service; tell its operator which layer it was",
        layer=layer if place is not None and place.op == "call_module" else None,
    )
