"""A network of layers from an exported program, checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.compression.backends.torch._framework import export, fx
from tasks.compression.backends.torch.network import Signature
from tasks.compression.backends.torch.rebuild.comparison import check_answers
from tasks.compression.backends.torch.rebuild.graph import GraphBuilder
from tasks.compression.backends.torch.rebuild.signature import ends_of
from tasks.compression.backends.torch.rebuild.tokens import input_ranges
from tasks.compression.errors import CompressionError
from tasks.compression.facts import Shape

__all__ = ["Rebuilt", "rebuild"]


@dataclass(frozen=True)
class Rebuilt:
    """`difference` is the largest between the network's answers and the program's, against the largest
    answer; `functions` are the operators that were left as they are although they have parameters, each with
    the first of these; `input_ranges` are those of ModelFacts."""

    model: fx.GraphModule
    signature: Signature
    output_shapes: tuple[Shape, ...]
    difference: float
    functions: tuple[tuple[str, str], ...]
    input_ranges: tuple[int | None, ...]


def rebuild(program: export.ExportedProgram, names: Mapping[str, Sequence[str]] | None = None) -> Rebuilt:
    """The program as a network of layers in evaluation mode. `names` as of `ends_of`.

    Raises CompressionError unsupported_model for a program in training mode, one that writes into its weights
    or whose inputs and outputs no network of ours has, and where the answers differ.
    """
    ends = ends_of(program, names or {})
    builder = GraphBuilder(program)
    try:
        model = builder.build(ends.inputs, ends.outputs)
    except CompressionError:
        raise
    # Calls with arguments that no operator takes are met with about anything.
    except Exception as error:
        raise CompressionError(
            "bad_model",
            f"the exported program contradicts itself: {type(error).__name__} {str(error)[:200]}",
            hint="export and upload it again",
        ) from error
    ranges = input_ranges(model, ends.signature.input_dtypes)
    _thaw(model)
    difference = check_answers(program, model, ends, ranges, builder.made)
    functions = tuple(dict.fromkeys(builder.functions_with_parameters))
    return Rebuilt(model, ends.signature, ends.output_shapes, difference, functions, ranges)


def _thaw(model: fx.GraphModule) -> None:
    """A model exported for inference alone has every parameter frozen; nobody froze all layers on purpose."""
    if not any(value.requires_grad for value in model.parameters()):
        model.requires_grad_(True)
