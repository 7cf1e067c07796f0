"""What is to be pruned by which rule, what a training makes of it, and what is said of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from featherweight.spec import NOfM, PolynomialDecay, Prune, PruningSchedule
from tasks.compression.context import Context
from tasks.compression.mask_updates import sparsity_after
from tasks.compression.prunability import is_global, zero_share_of, zero_share_together
from tasks.compression.resolve import settled_step
from tasks.compression.workspace import LayerNote

__all__ = [
    "Assignment",
    "Rule",
    "note_outcome",
    "remark_on_frequencies",
    "schedules_of",
    "settled_pruning",
    "warn_of_late_ends",
]

FEWEST_UPDATES = 4  # with fewer mask updates on its way, a decay is a jump


class Rule(Protocol):
    """How the masks of `weights` follow from their values and a sparsity."""

    weights: list[Any]


RuleT = TypeVar("RuleT", bound=Rule)


@dataclass(frozen=True)
class Assignment(Generic[RuleT]):
    """What `step` prunes by one rule: the layers at `paths`, to the sparsity `target` in the end, along the
    contract's `schedule`, never below `floor`."""

    step: Prune
    paths: tuple[str, ...]
    rule: RuleT
    schedule: PruningSchedule
    target: float
    floor: float
    layers: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """For a method that ranks all layers together, the weights of each."""

    def asked(self, steps: int) -> float:
        """The sparsity that the schedule has got to after `steps` steps."""
        end, last = sparsity_after(self.schedule, steps)
        # N of M is a sparsity of its own, whatever a schedule's.
        if end <= steps or (isinstance(self.step.pattern, NOfM) and last > 0):
            return self.target
        return max(last, self.floor)

    def zeros(self, sparsity: float) -> float:
        """The share of the rule's weights that its masks will take away at least."""
        sizes = [math.prod(weight.shape) for weight in self.rule.weights]
        if is_global(self.step):
            return zero_share_together(sizes, sparsity)
        return zero_share_of(sizes, self.step, sparsity)


def warn_of_late_ends(assignments: Iterable[Assignment[Any]], steps: int, context: Context) -> None:
    """Say of every schedule that ends after a training of `steps` steps which sparsity will be reached."""
    said: set[tuple[int, float, float]] = set()
    for item in assignments:
        end, reached = sparsity_after(item.schedule, steps)[0], item.asked(steps)
        if reached < item.target - 1e-6 and (end, item.target, reached) not in said:
            said.add((end, item.target, reached))
            context.warn("schedule_ends_late", end=end, steps=steps, target=item.target, reached=reached)


def note_outcome(
    assignments: Iterable[Assignment[Any]],
    steps: int,
    context: Context,
    zero_share: Callable[[Sequence[Any]], float],
) -> None:
    """After a training of `steps` steps, with the masks applied: note what the layers of a global method came
    to, and warn where there are fewer zeros than the schedule's last update asked for. `zero_share` is that
    of some weights together."""
    for item in assignments:
        for path, weights in item.layers.items():
            context.record.layers[path] = LayerNote(target_sparsity=zero_share(weights))
        reached = zero_share(item.rule.weights)
        asked = item.asked(steps)
        if reached < item.zeros(asked) - 1e-9:
            layer = item.paths[0] if len(item.paths) == 1 else None
            context.warn("sparsity_not_reached", layer=layer, reached=reached, target=asked, why="")


def schedules_of(steps: Iterable[Prune]) -> Iterator[PruningSchedule]:
    """Of all that waits, overrides included."""
    for step in steps:
        yield step.schedule
        yield from (override.schedule for override in step.overrides)


def settled_pruning(waiting: Iterable[Prune], steps: int) -> int:
    """The step, of a training of `steps`, after which all that waits asks for its final sparsity."""
    return max((settled_step(schedule, steps) for schedule in schedules_of(waiting)), default=0)


def remark_on_frequencies(waiting: Iterable[Prune], context: Context) -> None:
    """Say of every decay that is updated so rarely that it jumps."""
    for schedule in schedules_of(waiting):
        if not isinstance(schedule, PolynomialDecay):
            continue
        begin, end, frequency = schedule.begin_step, schedule.end_step, schedule.frequency
        if isinstance(begin, int) and isinstance(end, int) and isinstance(frequency, int):
            steps = end - begin
            if frequency * FEWEST_UPDATES > steps:
                context.warn("fewer_steps_than_frequency", steps=steps, frequency=frequency)
