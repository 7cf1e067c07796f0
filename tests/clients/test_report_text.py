from __future__ import annotations

from typing import Any

from featherweight.cli.report_text import report_text
from featherweight.report import Report
from tests.clients.sample_report import REPORT


def test_report_is_a_table_of_files_and_one_of_layers() -> None:
    text = report_text(Report.model_validate(REPORT))
    lines = text.splitlines()
    assert lines[0] == "verdict: smaller   (12.5 s, seed 7)"
    output = next(line for line in lines if line.startswith("output"))
    expected = "output    model.tflite (full_int8)   12,000   7,000   12.86x    97.10%"
    assert output.startswith(expected)
    assert "96.10% to 98.10% (n=1000)" in output
    assert output.split()[-7:] == ["0.100", "0.200", "6,900", "1,000", "200", "30,560", "25,732"]
    assert "nothing to prune" in text
    assert "samples: 5000 (3600 train, 400 validation, 200 calibration, 1000 test from the split)" in lines
    assert "inferred: loss = mean_squared_error (compiled_model)" in lines
    assert lines[-1] == "warning: Only a few samples (layer conv2d) [few_samples]"


def test_report_says_what_changed_and_where() -> None:
    lines = report_text(Report.model_validate(REPORT)).splitlines()
    change = next(line for line in lines if line.startswith("model.tflite"))
    assert "-0.40 points" in change
    assert "-0.90 points to +0.10 points (n=1000)" in change
    assert "1.20%" in change
    assert change.endswith("0.0310")
    worst = lines[next(index for index, line in enumerate(lines) if line.startswith("worst classes")) + 1]
    assert worst.split() == ["model.tflite", "8", "90", "97.8%", "93.3%"]
    assert "operations of model.tflite: CONV_2D 2 (1 in float), FULLY_CONNECTED 1 (1 hybrid)" in lines
    conv = next(line for line in lines if line.startswith("conv2d"))
    assert conv.split()[-2:] == ["int8", "31.4"]


def test_report_without_data_has_dashes_where_nothing_was_measured() -> None:
    bare = {**REPORT, "data": None, "baseline": None, "warnings": [], "inferred": [], "layers": []}
    unmeasured = dict.fromkeys(("accuracy", "latency", "difference", "flipped", "by_class"))
    bare["outputs"] = [{**REPORT["outputs"][0], **unmeasured}]
    bare["original"] = {**REPORT["original"], "accuracy": None}
    lines = report_text(Report.model_validate(bare)).splitlines()
    output = next(line for line in lines if line.startswith("output"))
    assert output.split()[6:10] == ["-", "-", "-", "-"]


def test_report_says_what_is_an_earlier_attempts() -> None:
    made: dict[str, Any] = {"technique": "prune", "seconds": 1.0, "key": "k"}
    places = [{"resumed_from_epoch": 2}, {"resumed_from_round": 1}, {"resumed_from_epoch": 0}]
    steps = [{**made, "index": 0, "reused": True}, {**made, "index": 1}]
    steps += [{**made, "index": index, "details": place} for index, place in enumerate(places, 2)]
    lines = report_text(Report.model_validate({**REPORT, "steps": steps})).splitlines()
    assert [line for line in lines if line.startswith("step ")] == [
        "step 0, prune: finished by an earlier attempt",
        "step 2, prune: gone on with after epoch 2 of an earlier attempt",
        "step 3, prune: gone on with after round 1 of an earlier attempt",
    ]


def test_mean_error_is_shown_as_a_number() -> None:
    error = {**REPORT["original"]["accuracy"], "metric": "mean_squared_error", "method": "bootstrap"}
    report = {**REPORT, "original": {**REPORT["original"], "accuracy": error}}
    text = report_text(Report.model_validate(report))
    assert "0.975" in text
    assert "mean_squared_error" in text


def test_every_output_of_a_model_has_its_rows() -> None:
    accuracy = REPORT["original"]["accuracy"]
    error = {**accuracy, "metric": "mean_squared_error", "method": "bootstrap", "value": 0.25}
    parts = {"size": {"accuracy": error}, "kind": {"accuracy": accuracy}, "unmeasured": {}}
    report = {**REPORT, "original": {**REPORT["original"], "by_output": {"kind": parts["kind"]}}}
    report["outputs"] = [{**REPORT["outputs"][0], "by_output": parts}]
    lines = report_text(Report.model_validate(report)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("output  file"))
    rows = [line.split()[:4] for line in lines[start + 1 : start + 4]]
    assert rows == [
        ["kind", "model.keras", "accuracy", "97.50%"],
        ["kind", "model.tflite", "accuracy", "97.50%"],
        ["size", "model.tflite", "mean_squared_error", "0.25"],
    ]


def test_report_names_the_outputs_that_are_missing() -> None:
    missing = [{"output": "onnx", "code": "conversion_failed", "detail": "no operation for it"}]
    lines = report_text(Report.model_validate({**REPORT, "missing": missing})).splitlines()
    assert "missing: onnx (conversion_failed)" in lines
