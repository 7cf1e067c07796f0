"""What a report says of the outputs of a network: of the only one, or of every one of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featherweight.report import Difference, Measurement, OutputMeasure, Variant
from tasks.compression.changes import Change, change
from tasks.compression.errors import CompressionError
from tasks.compression.evaluate import Likeness, compare, measure
from tasks.compression.objective import Objective
from tasks.compression.objectives import Aim, Objectives, each_output
from tasks.compression.samples import Array, Samples, Tensors

__all__ = ["Measures", "changed", "compared", "described", "losses", "measured", "outcomes"]

ROUNDING = 1e-4
"""The share of a mean error that is no change."""

_FIELDS = tuple(OutputMeasure.model_fields)

Measures = Mapping[str, Measurement]
"""By the name of the output; the name is empty where there is one."""


def measured(aim: Aim, outputs: Tensors, labels: Tensors, seed: int) -> dict[str, Measurement]:
    """The first metric of every output."""
    return {
        name: measure(part, values, truth, seed)
        for name, part, (values, truth) in each_output(aim, outputs, labels)
    }


def changed(
    aim: Aim, before: Tensors | None, outputs: Tensors, labels: Tensors, seed: int
) -> dict[str, Change]:
    """What changed at every output since the original's answers `before`; without them, of the original
    itself, how well its probabilities are calibrated."""
    given = (outputs, labels) if before is None else (outputs, labels, before)
    return {
        name: change(part, tensors[2] if before is not None else None, tensors[0], tensors[1], seed)
        for name, part, tensors in each_output(aim, *given)
    }


def compared(name: str, reference: Tensors, answers: Tensors, aim: Aim | None) -> dict[str, Likeness]:
    """How like the `answers` of the file `name` are to the `reference`, output by output. CompressionError
    verification_failed as `compare` has it; the detail names the output."""
    return {
        output: _compared(name, output, theirs, ours, part)
        for output, part, theirs, ours in _pairs(reference, answers, aim)
    }


def _pairs(
    reference: Tensors, answers: Tensors, aim: Aim | None
) -> Iterator[tuple[str, Objective | None, Array, Array]]:
    if aim is not None:
        for name, part, (theirs, ours) in each_output(aim, reference, answers):
            yield name, part, theirs, ours
    elif isinstance(reference, Samples) and isinstance(answers, Samples):
        for name, theirs in zip(reference.names, reference.arrays, strict=True):
            yield name, None, theirs, answers.of(name)
    elif not isinstance(reference, Samples) and not isinstance(answers, Samples):
        yield "", None, reference, answers
    else:
        raise TypeError("one output compared with several")


def _compared(
    name: str, output: str, reference: Array, answers: Array, objective: Objective | None
) -> Likeness:
    try:
        return compare(name, reference, answers, objective)
    except CompressionError as error:
        error.detail = f"output {output}: {error.detail}" if output else error.detail
        raise


def described(
    aim: Aim | None,
    accuracies: Measures,
    likenesses: Mapping[str, Likeness],
    changes: Mapping[str, Change] | None = None,
) -> dict[str, Any]:
    """The fields of a Variant that say it."""
    names = list(dict.fromkeys((*likenesses, *accuracies)))
    found = changes or {}
    parts = {
        name: _part(accuracies.get(name), likenesses.get(name), found.get(name, Change())) for name in names
    }
    main = parts.get(aim.main if isinstance(aim, Objectives) else next(iter(parts), ""))
    update: dict[str, Any] = {} if main is None else {name: getattr(main, name) for name in _FIELDS}
    if isinstance(aim, Objectives) or len(parts) > 1:
        update["by_output"] = parts
    return update


def _part(accuracy: Measurement | None, likeness: Likeness | None, change: Change) -> OutputMeasure:
    return OutputMeasure(
        accuracy=accuracy,
        max_abs_difference=None if likeness is None else likeness.max_abs_difference,
        agreement=None if likeness is None else likeness.agreement,
        difference=change.difference,
        flipped=change.flipped,
        calibration_error=change.calibration_error,
        by_class=change.by_class,
    )


def outcomes(before: Variant, after: Variant) -> list[bool | None]:
    """For each output whether `after` is worse than `before` beyond chance: whether the whole 95 % interval
    of the paired difference lies on the bad side. None where there are no labels to tell by."""
    if after.by_output is None:
        return [_worse(before.accuracy, after.difference)]
    known = before.by_output or {}
    return [
        _worse(known[name].accuracy if name in known else None, part.difference)
        for name, part in after.by_output.items()
    ]


def losses(before: Variant, after: Variant) -> list[tuple[str, Difference]]:
    """The differences of the outputs that are worse beyond chance, by output; "" is the only one."""
    parts: Mapping[str, Variant | OutputMeasure] = after.by_output or {"": after}
    return [
        (name, part.difference)
        for (name, part), worse in zip(parts.items(), outcomes(before, after), strict=True)
        if worse and part.difference is not None
    ]


def _worse(before: Measurement | None, difference: Difference | None) -> bool | None:
    if difference is None:
        return None
    least = difference.high if difference.higher_is_better else -difference.low
    # A mean error that another kernel rounds otherwise changes by the same sign on every sample.
    rounding = 0.0 if difference.higher_is_better or before is None else ROUNDING * abs(before.value)
    return least < -rounding
