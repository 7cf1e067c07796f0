from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featherweight.cli import main
from featherweight.cli.comparison import comparison_text
from featherweight.report import Report
from tests.clients.sample_report import REPORT

OTHER: dict[str, Any] = {
    **REPORT,
    "job_id": "job_1",
    "verdict": "smaller_but_worse",
    "outputs": [{**REPORT["outputs"][0], "scheme": "float16", "gzip_bytes": 5_500, "difference": None}],
    "warnings": [{"code": "zeros_lost", "message": "Zeros were lost"}],
}


def rows(text: str) -> dict[str, list[str]]:
    """By the first column; columns are two spaces apart at least."""
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if row}


def test_two_reports_stand_side_by_side() -> None:
    text = comparison_text(Report.model_validate(REPORT), Report.model_validate(OTHER))
    found = rows(text)
    assert found["verdict"] == ["smaller", "smaller but worse"]
    assert found["model.tflite: gzip"] == ["7,000", "5,500"]
    assert found["model.tflite: scheme"] == ["full_int8", "float16"]
    assert found["model.tflite: change"] == ["-0.40 points", "-"]
    assert found["model.tflite: accuracy"] == ["97.10%", "97.10%"]
    assert found["model.tflite: p50 ms"] == ["0.100", "0.100"]
    assert "warning of the first alone: Only a few samples (layer conv2d) [few_samples]" in text
    assert "warning of the second alone: Zeros were lost [zeros_lost]" in text
    assert "do not compare" not in text


def test_other_models_and_other_tests_are_said() -> None:
    model = {**REPORT["inputs"][0], "sha256": "other"}
    first = Report.model_validate(REPORT)
    assert "different models" in comparison_text(first, Report.model_validate({**OTHER, "inputs": [model]}))
    assert "different samples" in comparison_text(first, Report.model_validate({**OTHER, "seed": 8}))


def test_output_that_one_lacks_has_a_hyphen() -> None:
    keras = {**REPORT["outputs"][0], "name": "model.keras"}
    text = comparison_text(
        Report.model_validate(REPORT), Report.model_validate({**OTHER, "outputs": [keras]})
    )
    assert rows(text)["model.keras: bytes"] == ["-", "12,000"]


def test_command_compares_downloaded_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, report in zip(paths, (REPORT, OTHER), strict=True):
        path.write_text(json.dumps(report))
    assert main(["compare", *map(str, paths)]) == 0
    assert "smaller but worse" in capsys.readouterr().out
    assert main(["compare", *map(str, paths), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["second"]["job_id"] == "job_1"
