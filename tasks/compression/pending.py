"""What steps leave behind for later ones, of a network of any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from tasks.compression.waiting import WaitingStep

__all__ = ["Pending", "Sharing", "StepT"]

StepT = TypeVar("StepT", bound=WaitingStep)
Kept = TypeVar("Kept", bound=WaitingStep, covariant=True)


@dataclass(frozen=True)
class Pending(Generic[Kept]):
    """A step that waits for the training which carries it out."""

    step: Kept
    pointer: str


@dataclass(frozen=True)
class Sharing:
    """At most how many values the weights of a layer's kernels, or of each of its channels, take."""

    clusters: int
    per_channel: bool
