"""Outputs that TensorFlow's converters refuse, in jobs and plans, and what a job that goes on knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from featherweight.plan import Plan
from featherweight.spec import CompressionSpec
from tasks.compression import CompressionError, Outcome, compress
from tasks.compression.delivery import Delivery
from tasks.compression.outline.reading import read_outline
from tasks.compression.planning import plan
from tests.compression.networks import keras, save_model

PRUNE = {"technique": "prune"}
INTEGERS = {"technique": "quantize", "scheme": "dynamic_int8"}
SPEC: dict[str, Any] = {
    "steps": [PRUNE, INTEGERS],
    "outputs": ["tflite", "keras", "c_array"],
    "on_unsupported": "skip",
}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a layer that TFLite has no operation for."""
    layers = keras().layers
    model = keras().Sequential(
        [
            layers.InputLayer((4, 4, 4, 2)),
            layers.MaxPooling3D(name="pool"),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )
    return save_model(model, tmp_path_factory.mktemp("volumes") / "m.keras")


@pytest.fixture(scope="module")
def skipped(volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    workdir = tmp_path_factory.mktemp("w")
    return compress(volumes, SPEC, workdir=workdir), workdir


def test_the_keras_file_is_delivered_alone(skipped: tuple[Outcome, Path]) -> None:
    report = skipped[0].report
    assert [item.name for item in report.outputs] == ["model.keras"]
    assert [item.output for item in report.missing] == ["tflite", "c_array"]
    assert {item.code for item in report.missing} == {"conversion_failed"}
    assert [warning.code for warning in report.warnings].count("output_missing") == 2
    assert report.outputs[0].nonzero_parameters is not None
    assert report.outputs[0].parameters is not None
    assert report.outputs[0].nonzero_parameters < report.outputs[0].parameters


def test_a_resumed_job_says_the_same(volumes: Path, skipped: tuple[Outcome, Path]) -> None:
    first, workdir = skipped
    again = compress(volumes, SPEC, workdir=workdir).report
    assert [step.reused for step in again.steps] == [True, True]
    assert again.missing == first.report.missing
    assert [item.sha256 for item in again.outputs] == [item.sha256 for item in first.report.outputs]


@pytest.mark.parametrize(
    ("outputs", "mode", "pointer"),
    [
        (["keras", "tflite"], "error", "/outputs/1"),
        (["c_array"], "skip", "/outputs/0"),
        (["tflite", "c_array"], "skip", "/outputs"),
    ],
    ids=str,
)
def test_plans_refuse_what_the_job_refuses(
    volumes: Path, outputs: list[str], mode: str, pointer: str, tmp_path: Path
) -> None:
    spec = {"steps": [INTEGERS], "outputs": outputs, "on_unsupported": mode}
    with pytest.raises(CompressionError) as caught:
        compress(volumes, spec, workdir=tmp_path)
    assert (caught.value.code, caught.value.pointer) == ("conversion_failed", pointer)
    (problem,) = planned(volumes, **spec).problems
    assert (problem.code, problem.pointer, problem.layer) == ("conversion_failed", f"/spec{pointer}", "pool")


def planned(model: Path, **spec: Any) -> Plan:
    return plan(read_outline(model), CompressionSpec.model_validate(spec))


def test_plans_warn_of_what_the_job_leaves_out(volumes: Path) -> None:
    made = planned(volumes, **SPEC)
    assert made.feasible
    said = [warning for warning in made.warnings if warning.code == "output_missing"]
    assert [warning.layer for warning in said] == ["pool", "pool"]
    assert [size.output for size in made.after] == ["keras"]


def test_an_output_is_lost_once_and_what_was_lost_before_is_known() -> None:
    spec = CompressionSpec.model_validate({**SPEC, "outputs": ["tflite", "keras"]})
    first, said = Delivery(spec), []
    missing = first.leave_out(["tflite"], CompressionError("conversion_failed", "no"), said.append)
    assert first.leave_out(["tflite"], CompressionError("conversion_failed", "no"), said.append) == []
    assert [warning.code for warning in said] == ["output_missing"]
    later = Delivery(spec)
    later.take_over(missing)
    assert later.wanted == ("keras",)
    assert later.missing == first.missing
