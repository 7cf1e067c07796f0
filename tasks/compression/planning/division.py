"""How many samples there are for what, from the shapes in a data set's headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from featherweight.plan import PlanData
from featherweight.report import ReportWarning
from featherweight.spec import CompressionSpec
from tasks.compression.aims import check_output_names, training_steps
from tasks.compression.arrays import arranged
from tasks.compression.data import (
    MIN_SAMPLES,
    calibration_samples,
    lacking_channel_axis,
    too_few_samples,
    validation_share,
)
from tasks.compression.errors import CompressionError
from tasks.compression.outline.facts import Outline

__all__ = ["Shapes", "divide"]

Shapes = Mapping[str, tuple[tuple[int, ...], int]]
"""Shape and bytes of each array."""


def divide(
    shapes: Shapes, outline: Outline, spec: CompressionSpec, warn: Callable[[ReportWarning], None]
) -> PlanData:
    """As the job divides it.

    CompressionError bad_data, array_missing, shape_mismatch, too_few_samples and invalid_request for names of
    outputs, with the job's own sentences."""
    given = arranged({name: shape for name, (shape, _) in shapes.items()}, outline)
    for (tensor, names), wanted in zip(given.x.items(), outline.shapes(outline.inputs), strict=True):
        if wanted is not None:
            lacking_channel_axis(shapes[names[0]][0][1:], wanted[1:], given.called["x", tensor], warn)
    samples = given.samples + (given.tested or 0)
    if samples < MIN_SAMPLES:
        raise too_few_samples(samples)
    for index, step in training_steps(spec):
        check_output_names(step, outline, f"/steps/{index}")
    held = round(samples * spec.split.test) if given.tested is None else given.tested
    pool = samples - held
    validation = round(pool * validation_share(spec))
    train = pool - validation
    if not train or not held:
        raise CompressionError(
            "too_few_samples",
            f"{train} samples are left to train on and {held} to test on",
            hint="send more samples or make the splits smaller",
        )
    return PlanData(
        samples=samples,
        train=train,
        validation=validation,
        calibration=min(train, calibration_samples(spec)),
        test=held,
        test_source="split" if given.tested is None else "caller",
    )
