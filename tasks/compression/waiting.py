"""Which steps train, and which wait for a training step to carry them out: the one place that knows."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.spec import Cluster, Distill, Finetune, Prune, PruneChannels, QuantizeAware, Step

__all__ = ["TrainingStep", "WaitingStep", "can_wait", "carrier", "trains", "waits"]

TrainingStep = Finetune | Distill
WaitingStep = Prune | PruneChannels | Cluster | QuantizeAware


def trains(step: Step | None) -> bool:
    return isinstance(step, TrainingStep)


def can_wait(step: Step | None) -> bool:
    """Whether a training step after `step` carries it out, should there be one."""
    if isinstance(step, PruneChannels):
        return step.iterations > 1
    return isinstance(step, WaitingStep)


def waits(step: Step, following: Step | None) -> bool:
    """Whether `step` leaves its work to what comes after it: to a training step, or to another step that can
    wait, which does the work of both at once when no training follows it either."""
    return can_wait(step) and (trains(following) or can_wait(following))


def carrier(steps: Sequence[Step], index: int) -> TrainingStep | None:
    """The training step that carries out the waiting step at `index`; None when it is done at once."""
    for step in steps[index + 1 :]:
        if isinstance(step, TrainingStep):
            return step
        if not can_wait(step):
            return None
    return None
