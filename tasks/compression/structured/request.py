"""What can be asked for, and what was done: the nouns of structured pruning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.compression.structured.importance import CRITERIA, Criterion

__all__ = ["LayerChange", "PruningReport", "PruningRequest", "Remark", "Target", "Untouched"]


@dataclass(frozen=True)
class Target:
    """How much is to go.

    channels    remove the share `amount` of the channels that can be removed, and never more: of each
                group with local ranking, of all of them together with global
    parameters  go just far enough that at most 1 - `amount` of the parameters are left
    macs        the same for multiply-accumulates

    Shares are of the network as it was before the first round. ValueError unless 0 <= amount < 1.
    """

    measure: Literal["channels", "parameters", "macs"]
    amount: float

    def __post_init__(self) -> None:
        if self.measure not in ("channels", "parameters", "macs"):
            raise ValueError(f"measure must be channels, parameters or macs, not {self.measure!r}")
        _check_share("amount", self.amount)


@dataclass(frozen=True)
class PruningRequest:
    """What to remove, and by what ranking.

    ranking       ``local``: every group of layers loses the same share, the least important first.
                  ``global``: channels of all groups are compared with one another
    include       a group is pruned only if all the layers that make it match one of these shell patterns ...
    exclude       ... and no layer it goes through (batch normalisation and depthwise convolutions too)
                  matches one of these
    shares        pattern → share of channels to remove from the groups made by a matching layer, apart
                  from `target`; of several for one group the smallest
    min_channels  no layer is left with fewer, unless it had fewer
    min_share     global ranking leaves at least this share of a layer's channels, so that it empties none
    round_to      the channels left are a multiple of this wherever channels were removed (8 suits int8
                  kernels); removing stops short rather than go beyond a channels target

    ValueError for values out of their bounds.
    """

    target: Target
    criterion: Criterion = "l2"
    ranking: Literal["local", "global"] = "local"
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    min_channels: int = 1
    min_share: float = 0.1
    round_to: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {self.criterion!r}")
        if self.ranking not in ("local", "global"):
            raise ValueError(f"ranking must be local or global, not {self.ranking!r}")
        for name in ("min_channels", "round_to"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        _check_share("min_share", self.min_share)
        for pattern, share in self.shares.items():
            _check_share(f"shares[{pattern!r}]", share)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be from 0 to below 1, not {value}")


@dataclass(frozen=True)
class LayerChange:
    """A layer with weights. Channels are those it makes or treats one by one; None where it does neither
    or where they cannot be followed."""

    name: str
    kind: str
    channels_before: int | None
    channels_after: int | None
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class Untouched:
    """A layer that makes channels none of which may be removed, or through which they cannot be followed."""

    name: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What the caller should know. `code` is target_not_reached, no_effect or compile_lost."""

    code: str
    message: str
    layer: str | None = None


@dataclass(frozen=True)
class PruningReport:
    """Before and after. `reached` is the share of the target's measure that went; `met` says whether that is
    what was asked for: for a channels target never more, for the others never less. `assumed` are the layers
    whose MACs are of sizes that are not known, with what was taken for them."""

    target: Target
    reached: float
    met: bool
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    layers: tuple[LayerChange, ...]
    untouched: tuple[Untouched, ...]
    remarks: tuple[Remark, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict)
