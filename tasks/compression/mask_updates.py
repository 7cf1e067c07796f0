"""When a pruning schedule updates masks and to which sparsity, in plain numbers.

Masks are updated at the first and the last step and every `frequency` steps between them. Steps are optimiser
steps, counted from 1; schedules are resolved ones.
"""

from __future__ import annotations

from bisect import bisect_right

from featherweight.spec import ConstantSparsity, CustomSchedule, PolynomialDecay, PruningSchedule

__all__ = ["sparsity_after", "update_at"]


def update_at(schedule: PruningSchedule, step: int) -> float | None:
    """The sparsity that masks are updated to before `step`; None where they stay."""
    begin, end = _ends(schedule)
    if isinstance(schedule, CustomSchedule) and any(point.step == step for point in schedule.points):
        return _value(schedule, step)
    regular = begin <= step <= end and (step - begin) % int(schedule.frequency) == 0
    return _value(schedule, step) if regular or step in (max(1, begin), end) else None


def sparsity_after(schedule: PruningSchedule, steps: int) -> tuple[int, float]:
    """(its last step, the sparsity of the last update within `steps`); 0.0 before the first update."""
    end = _ends(schedule)[1]
    for step in range(min(steps, max(1, end)), 0, -1):
        wanted = update_at(schedule, step)
        if wanted is not None:
            return end, wanted
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
