"""Where channels are after a reshape, which keeps the order of elements (row-major) and changes the axes."""

from __future__ import annotations

from math import prod

import numpy as np

from tasks.compression.structured.channels import Channels, Labels
from tasks.compression.structured.flows import Opaque

__all__ = ["reshaped"]

Sizes = tuple[int, ...]


def reshaped(
    shape: Sizes, axis: int, labels: Labels, target: Sizes, channels: Channels
) -> tuple[int, Labels]:
    """The axis of `target` that goes by channels, and its labels. Opaque where none does, or where one is the
    batch's.

    An axis that takes in others before and after the channels repeats them: ``(N, T, C, S)`` to ``(N, TCS)``
    has channel ``k // S % C`` at k. Of several axes that the channels are spread over the last is followed,
    and channels that differ in the others alone are tied: heads of an attention, groups of a shuffle.
    """
    count, before, after = shape[axis], prod(shape[:axis]), prod(shape[axis + 1 :])
    for place, size in enumerate(target):
        ahead, behind = prod(target[:place]), prod(target[place + 1 :])
        if (size == 1 and count > 1) or before % ahead or after % behind:
            continue
        outer, inner = before // ahead, after // behind
        if size != outer * count * inner:
            continue
        if place == 0:
            raise Opaque("its new shape puts channels into the batch")
        return place, np.tile(np.repeat(labels, inner), outer)
    return _spread(count, before, after, labels, target, channels)


def _spread(
    count: int, before: int, after: int, labels: Labels, target: Sizes, channels: Channels
) -> tuple[int, Labels]:
    for first in range(1, len(target)):
        for end in range(first + 2, len(target) + 1):
            if (prod(target[:first]), prod(target[first:end]), prod(target[end:])) != (before, count, after):
                continue
            last = max(place for place in range(first, end) if target[place] > 1 or place == first)
            rows = labels.reshape(-1, target[last])
            for row in rows[1:]:
                channels.tie(rows[0], row)
            return last, rows[0].copy()
    raise Opaque("its new shape cuts through the channels")
