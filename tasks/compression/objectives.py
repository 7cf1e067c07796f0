"""What a network with several outputs is judged and trained by: an objective for each output, and weights.

Everything that measures takes an `Aim`, the objective of one output or those of several, and goes through
`each_output`, which is the same loop for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from featherweight.report import Inference
from tasks.compression.objective import Objective
from tasks.compression.samples import Array, Samples, Tensors

__all__ = ["Aim", "Objectives", "each_output", "main_metric", "main_output"]


@dataclass(frozen=True)
class Objectives:
    """`by_output` in the order of the model's outputs; each part's labels stand for all samples. Parts whose
    labels come from the original are trained by no loss of their own. `weights` are the losses'."""

    by_output: Mapping[str, Objective]
    weights: Mapping[str, float]
    weights_inferred: Inference

    @property
    def labels(self) -> Samples:
        return Samples(tuple(self.by_output), tuple(part.labels for part in self.by_output.values()))

    @property
    def labelled(self) -> dict[str, Objective]:
        return {name: part for name, part in self.by_output.items() if part.labels_from != "original"}

    @property
    def main(self) -> str:
        """The output that stands for all where one must: the first with labels, else the first."""
        return next(iter(self.labelled or self.by_output))

    @property
    def inferred(self) -> tuple[Inference, ...]:
        fields = (
            item.model_copy(update={"field": f"{name}/{item.field}"})
            for name, part in self.by_output.items()
            for item in part.inferred
        )
        return (*fields, self.weights_inferred)


Aim = Objective | Objectives


def each_output(aim: Aim, *tensors: Tensors) -> Iterator[tuple[str, Objective, tuple[Array, ...]]]:
    """Every output's name, its objective and its array of each of `tensors`, found by name; the name is empty
    for the only output of a model."""
    if isinstance(aim, Objective):
        yield "", aim, tuple(_only(tensor) for tensor in tensors)
        return
    for name, part in aim.by_output.items():
        yield name, part, tuple(_named(tensor, name) for tensor in tensors)


def main_output(aim: Aim) -> Objective:
    return aim if isinstance(aim, Objective) else aim.by_output[aim.main]


def main_metric(aim: Aim) -> str:
    """What the first metric of the main output goes by in the reports of epochs."""
    part = main_output(aim)
    called = part.called(part.metrics[0])
    return called if isinstance(aim, Objective) else f"{aim.main}_{called}"


def _only(tensor: Tensors) -> Array:
    if isinstance(tensor, Samples):
        raise TypeError("several arrays for a model of one output")
    return tensor


def _named(tensor: Tensors, name: str) -> Array:
    if not isinstance(tensor, Samples):
        raise TypeError("one array for a model of several outputs")
    return tensor.of(name)
