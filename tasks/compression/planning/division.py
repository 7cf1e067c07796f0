"""How many samples there are for what, from the shapes in a data set's headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from featherweight.plan import PlanData
from featherweight.report import ReportWarning
from featherweight.spec import CompressionSpec
from tasks.compression.data import MIN_SAMPLES, calibration_samples, lacks_channel_axis, validation_share
from tasks.compression.errors import CompressionError
from tasks.compression.facts import Shape

__all__ = ["Shapes", "divide"]

Shapes = Mapping[str, tuple[tuple[int, ...], int]]
"""Shape and bytes of each array."""


def divide(
    shapes: Shapes, wanted: Shape | None, spec: CompressionSpec, warn: Callable[[ReportWarning], None]
) -> PlanData:
    """As the job divides it. `wanted` is the shape of one sample of the model's input.

    CompressionError array_missing, shape_mismatch, too_few_samples, with the job's own sentences."""
    name, test_name = ("x_train", "x_test") if "x_train" in shapes or "y_train" in shapes else ("x", None)
    if name not in shapes:
        raise CompressionError("array_missing", f"the data set has no array {name}", hint="give x and y")
    shape = shapes[name][0]
    given, test = (shape[0] if shape else 0), None
    if test_name is not None and test_name in shapes:
        test = shapes[test_name][0][0] if shapes[test_name][0] else 0
    samples = given + (test or 0)
    if wanted is not None:
        lacks_channel_axis(shape[1:], wanted, warn)
    if samples < MIN_SAMPLES:
        raise CompressionError("too_few_samples", f"{samples} samples; at least {MIN_SAMPLES} are needed")
    held = round(samples * spec.split.test) if test is None else test
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
        test_source="split" if test is None else "caller",
    )
