"""Operations that a file will have, as far as what can be stored narrow goes by them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PlannedOperation", "PlannedWeights"]


@dataclass(frozen=True)
class PlannedWeights:
    shape: tuple[int, ...]


@dataclass(frozen=True)
class PlannedOperation:
    """Of the `kind` that LiteRT calls it, with the weights it is stored with."""

    kind: str
    weights: PlannedWeights
