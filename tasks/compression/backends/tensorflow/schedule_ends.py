"""Where a pruning schedule has got to when training ends, in plain numbers.

The same that `schedule` says in TensorFlow's: masks are updated at the first and the last step and every
`frequency` steps between them.
"""

from __future__ import annotations

from bisect import bisect_right

from featherweight.spec import ConstantSparsity, CustomSchedule, PolynomialDecay, PruningSchedule

__all__ = ["sparsity_after"]


def sparsity_after(schedule: PruningSchedule, steps: int) -> tuple[int, float]:
    """(its last step, the sparsity of the last update within `steps`) of a resolved schedule; 0.0 before the
    first update."""
    begin, end = _ends(schedule)
    first = max(1, begin)
    points = {point.step or 0 for point in schedule.points} if isinstance(schedule, CustomSchedule) else set()
    frequency = int(schedule.frequency)
    for step in range(min(steps, end), 0, -1):
        regular = begin <= step <= end and (step - begin) % frequency == 0
        if regular or step in (first, end) or step in points:
            return end, _value(schedule, step)
    return end, 0.0


def _ends(schedule: PruningSchedule) -> tuple[int, int]:
    if isinstance(schedule, CustomSchedule):
        return 0, schedule.points[-1].step or 0
    return int(schedule.begin_step), int(schedule.end_step)


def _value(schedule: PruningSchedule, step: int) -> float:
    if isinstance(schedule, ConstantSparsity):
        return schedule.target_sparsity
    if isinstance(schedule, PolynomialDecay):
        begin, end = _ends(schedule)
        gone = min(1.0, max(0.0, (step - begin) / (end - begin)))
        start, final = schedule.initial_sparsity, schedule.final_sparsity
        return float(final + (start - final) * (1.0 - gone) ** schedule.power)
    places = [point.step or 0 for point in schedule.points]
    values = [point.sparsity for point in schedule.points]
    before = min(max(bisect_right(places, step) - 1, 0), len(places) - 1)
    after = min(before + 1, len(places) - 1)
    if schedule.interpolation != "linear":
        return values[before]
    gone = min(1.0, max(0.0, (step - places[before]) / max(places[after] - places[before], 1)))
    return values[before] + gone * (values[after] - values[before])
