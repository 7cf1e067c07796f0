"""What is noted and said of a decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from featherweight.spec import Decompose, FixedRank
from tasks.compression.context import Context
from tasks.compression.lowrank.choice import Choice, Target
from tasks.compression.lowrank.ranks import Ranks
from tasks.compression.prunability import KEEP_ZEROS_FROM
from tasks.compression.structured import ModelCost
from tasks.compression.workspace import LayerNote

__all__ = ["Replacement", "note"]


class Replacement(Protocol):
    """The layers at `paths` in the place of `target`, the one with its name last; `error` is
    ||K - K'|| / ||K||, in the Frobenius norm, of the kernel K' that they amount to."""

    @property
    def target(self) -> Target: ...
    @property
    def paths(self) -> list[str]: ...
    @property
    def error(self) -> float: ...


def note(
    was: ModelCost,
    now: ModelCost,
    step: Decompose,
    choice: Choice,
    made: Sequence[Replacement],
    context: Context,
) -> None:
    """Into the record; layers are warned of whose zeros would have been kept: their factors have none."""
    for path, why in choice.left_alone.items():
        context.record.layers[path] = LayerNote(skipped=why)
        if path in choice.warned:
            context.warn("not_decomposed", layer=path, why=why)
    keep = None if isinstance(step.rank, FixedRank) else step.rank.keep
    for layer, reached in choice.missed.items():
        context.warn("rank_not_low_enough", layer=layer, reached=reached, asked=keep)
    for replacement in made:
        kernel = replacement.target.kernel
        zeros = 1.0 - np.count_nonzero(kernel) / kernel.size
        if zeros >= KEEP_ZEROS_FROM:
            context.warn("zeros_lost", layer=replacement.target.path, share=zeros)
        for path in replacement.paths:
            context.record.layers[path] = LayerNote(made_from=replacement.target.path)
    context.record.details.update(
        rank=step.rank.model_dump(mode="json"),
        parameters_before=was.parameters,
        parameters_after=now.parameters,
        macs_before=was.macs,
        macs_after=now.macs,
        layers={one.target.path: _described(one, choice.ranks[one.target.path]) for one in made},
        left_alone=choice.left_alone,
    )


def _described(replacement: Replacement, ranks: Ranks) -> dict[str, Any]:
    size, error = replacement.target.size, replacement.error
    return {
        "layers": replacement.paths,
        "ranks": [ranks.inputs] if size.is_matrix else [ranks.inputs, ranks.outputs],
        "full_ranks": [min(size.inputs, size.outputs)] if size.is_matrix else [size.inputs, size.outputs],
        "parameters_before": size.parameters,
        "parameters_after": int(size.parameters_at(ranks.inputs, ranks.outputs)),
        "macs_before": size.macs,
        "macs_after": int(size.macs_at(ranks.inputs, ranks.outputs)),
        "energy_kept": round(1.0 - error**2, 6),
        "relative_error": round(error, 6),
    }
