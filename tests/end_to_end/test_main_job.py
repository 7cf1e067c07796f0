"""The main job, on real digits, over HTTP: the goals, and that the report tells the truth."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.local.demo import SPEC
from deploy.local.stack import LocalStack
from deploy.local.table import report_table
from featherweight import Client, JobHandle, Report
from featherweight.receipt import RECEIPT
from featherweight.rerun import rerun
from featherweight.verify import verify
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

SMALLER = 8
POINTS_LOST = 0.015


class Result:
    def __init__(self, job: JobHandle, events: list[Any], directory: Path) -> None:
        self.job, self.events, self.directory = job, events, directory
        self.report: Report = job.report()

    def path(self, suffix: str) -> Path:
        return next(path for path in self.directory.iterdir() if path.suffix == suffix)


@pytest.fixture(scope="module")
def result(stack: LocalStack, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Result:
    events: list[Any] = []
    directory = tmp_path_factory.mktemp("result")
    with Client(stack.url, stack.api_key) as client:
        job = client.compress(digits.model, SPEC, dataset=digits.data)
        job.wait(timeout=300, on_event=events.append).download(directory)
        return Result(job, events, directory)


def test_it_is_eight_times_smaller_gzipped_and_hardly_less_accurate(result: Result, digits: Digits) -> None:
    original = len(gzip.compress(digits.model.read_bytes(), mtime=0))
    compressed = len(gzip.compress(result.path(".tflite").read_bytes(), mtime=0))
    assert original / compressed >= SMALLER
    output = next(each for each in result.report.outputs if each.format == "tflite")
    assert result.report.original.accuracy is not None
    assert output.accuracy is not None
    assert result.report.original.accuracy.value - output.accuracy.value <= POINTS_LOST
    assert result.report.verdict == "smaller"


def test_the_reports_accuracy_is_that_of_the_downloaded_file(result: Result, digits: Digits) -> None:
    output = next(each for each in result.report.outputs if each.format == "tflite")
    with np.load(digits.data) as arrays:
        images, labels = arrays["x_test"], arrays["y_test"]
    right = sum(
        int(answer == label)
        for answer, label in zip(_run(result.path(".tflite"), images), labels, strict=True)
    )
    assert output.accuracy is not None
    assert output.accuracy.n == len(labels)
    assert output.accuracy.value == pytest.approx(right / len(labels), abs=1e-9)
    assert output.accuracy.low < output.accuracy.value < output.accuracy.high


def test_sizes_and_digests_are_those_of_the_files(result: Result, digits: Digits) -> None:
    for output in result.report.outputs:
        content = (result.directory / output.name).read_bytes()
        assert (output.bytes, output.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    given = {each.role: each.sha256 for each in result.report.inputs}
    assert given["model"] == hashlib.sha256(digits.model.read_bytes()).hexdigest()
    assert given["dataset"] == hashlib.sha256(digits.data.read_bytes()).hexdigest()


def test_every_prunable_layer_reaches_the_asked_sparsity(result: Result) -> None:
    reached = {layer.name: layer.sparsity_after for layer in result.report.layers if layer.target_sparsity}
    assert len(reached) == 2
    assert all(abs(sparsity - 0.8) < 0.01 for sparsity in reached.values()), reached


def test_the_artifact_and_the_resource_are_the_same_report(result: Result) -> None:
    stored = Report.model_validate(json.loads((result.directory / "report.json").read_text()))
    assert stored == result.report


def test_the_receipt_vouches_for_every_file_delivered(client: Client, result: Result) -> None:
    found = verify(result.directory, client.receipt_keys())
    assert {RECEIPT, *found.files} == {path.name for path in result.directory.iterdir()}
    assert found.receipt.job_id == result.job.id


def test_measured_again_the_files_give_the_numbers_of_the_report(
    client: Client, result: Result, digits: Digits
) -> None:
    receipt = verify(result.directory, client.receipt_keys()).receipt
    again = rerun(result.directory, receipt, model=digits.model, dataset=digits.data)
    assert again.agrees, again.differing


def test_the_page_is_the_downloaded_one(client: Client, result: Result) -> None:
    page = client.jobs.report_html(result.job.id)
    assert page == (result.directory / "report.html").read_text()
    assert page.count("<svg") >= 3


def test_the_table_says_what_the_report_says(result: Result) -> None:
    table, report = report_table(result.report), result.report
    for variant in (report.original, *report.outputs):
        assert f"{variant.bytes:,}" in table
        assert f"{variant.gzip_bytes:,}" in table
        assert variant.accuracy is not None
        assert (
            f"{variant.accuracy.value:.2%} [{variant.accuracy.low:.2%}, {variant.accuracy.high:.2%}]" in table
        )
    for layer in report.layers:
        assert layer.name in table
        assert f"{layer.sparsity_after:.1%}" in table


def test_progress_rises_and_the_states_come_in_order(result: Result) -> None:
    fractions = [event.fraction for event in result.events if event.type == "progress"]
    assert len(fractions) > 3
    assert fractions == sorted(fractions)
    states = [event.state for event in result.events if event.type == "state"]
    assert states == ["queued", "running", "finalizing", "succeeded"]


def test_a_later_job_needs_no_second_upload(client: Client, result: Result) -> None:
    spec = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}], "outputs": ["tflite"]}
    again = client.compress(result.job.job.model_id, spec, dataset=result.job.job.dataset_id).wait(
        timeout=120
    )
    assert again.state == "succeeded"
    listed = [job.id for job in client.jobs.list(model_id=result.job.job.model_id)]
    assert listed[:2] == [again.id, result.job.id]


def _run(tflite: Path, images: np.ndarray[Any, Any]) -> list[int]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite.read_bytes())
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for image in images:
        interpreter.set_tensor(source["index"], image[None].astype(source["dtype"]))
        interpreter.invoke()
        answers.append(int(interpreter.get_tensor(target["index"]).argmax()))
    return answers
