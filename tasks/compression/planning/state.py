"""What goes from one planned step to the next: the network as an outline, and what is expected of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from featherweight.plan import PlanCost, PlanData, PlannedLayer
from featherweight.report import ReportWarning
from featherweight.spec import CompressionSpec, LayerSelection, Step
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.outputs import PROGRAMS
from tasks.compression.remarks import remark
from tasks.compression.selection import select_from
from tasks.compression.waiting import can_wait

__all__ = ["Context", "State", "select"]


@dataclass(frozen=True)
class State:
    """The network after some steps.

    `before_pruning` is the outline before the prune steps that come right one after another, whose zeros they
    all start from; `dtypes` what a layer's weights are stored as in a ``.tflite``, by path; `integers` says
    that activations are integers too, `guessed` that shapes are estimates, `guessed_zeros` that
    counts of zeros are. `rounds` are the networks that the next training trains one after another, `shared`
    the layers whose weights share values, which later steps keep few, `held` those that earlier steps made
    zeros in; `levels` are the most values that
    integers in a ``.tflite`` take, where they are fewer than of their type, `formats` the outputs that hold
    what is not float32. `unknown` says that a step of which nothing is known came before."""

    outline: Outline
    before_pruning: Outline | None = None
    dtypes: Mapping[str, str] = field(default_factory=dict)
    integers: bool = False
    guessed: bool = False
    guessed_zeros: bool = False
    rounds: tuple[Outline, ...] = ()
    shared: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    levels: int | None = None
    formats: frozenset[str] = PROGRAMS
    unknown: bool = False

    def with_weights(self, changed: Mapping[str, tuple[Weight, ...]], **other: Any) -> State:
        """With other weights for the layers named."""
        layers = tuple(
            layer.model_copy(update={"weights": changed[layer.path]}) if layer.path in changed else layer
            for layer in self.outline.layers
        )
        return replace(self, outline=self.outline.model_copy(update={"layers": layers}), **other)


@dataclass
class Context:
    """What a planner is given beside the state and its step, and where it writes what it found."""

    index: int
    spec: CompressionSpec
    data: PlanData | None
    layers: list[PlannedLayer] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    cost: PlanCost | None = None
    warnings: list[ReportWarning] = field(default_factory=list)

    @property
    def pointer(self) -> str:
        return f"/steps/{self.index}"

    @property
    def following(self) -> Step | None:
        steps = self.spec.steps
        return steps[self.index + 1] if self.index + 1 < len(steps) else None

    def waiting(self) -> Iterator[Step]:
        """The steps right before this one that wait for it, or wait together with it; the last first."""
        for step in reversed(self.spec.steps[: self.index]):
            if not can_wait(step):
                return
            yield step

    def warn(self, code: str, *, layer: str | None = None, **values: object) -> None:
        """KeyError for a code that remarks does not know."""
        self.warnings.append(remark(code, layer=layer, **values))


def select(outline: Outline, selection: LayerSelection, pointer: str) -> list[Layer]:
    """The layers `selection` names; CompressionError layer_not_found."""
    return select_from(outline.listed(), selection, pointer, weighted=lambda layer: bool(layer.weights))
