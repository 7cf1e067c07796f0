"""A batch from the command line, with real TensorFlow; and one whose worker is killed in the middle."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from featherweight import Client, cli
from featherweight.cli.exit_codes import OK, PARTIAL
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

# A seed of this run alone: jobs of other tests, on the same stack, would be results to take over.
MANIFEST = f"""
name: two ways
models: [a.keras, b.keras]
dataset: digits.npz
specs:
  dynamic: {{seed: {time.time_ns() % 2**31}, steps: [{{technique: quantize, scheme: dynamic_int8}}]}}
items:
  - custom_id: no such layer
    model: a.keras
    spec: {{steps: [{{technique: prune, layers: {{include: [nothing_is_called_so]}}}}]}}
"""


@pytest.fixture
def folder(tmp_path: Path, digits: Digits) -> Path:
    shutil.copy(digits.model, tmp_path / "a.keras")
    shutil.copy(digits.model, tmp_path / "b.keras")
    shutil.copy(digits.data, tmp_path / "digits.npz")
    (tmp_path / "manifest.yaml").write_text(MANIFEST)
    return tmp_path


def test_a_manifest_is_run_and_its_results_come_home(
    stack: LocalStack, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--url", stack.url, "--api-key", stack.api_key, "--json", "batch", "run"]
    manifest = str(folder / "manifest.yaml")
    code = cli.main([*arguments, manifest, "--output", str(folder / "out"), "--timeout", "200"])
    told = json.loads(capsys.readouterr().out)
    assert code == PARTIAL, told
    # Two files of the same bytes: uploaded once, computed once.
    counts = told["batch"]["counts"]
    assert (counts["succeeded"], counts["failed"], counts["reused"]) == (2, 1, 1)
    first, second, third = told["items"]
    assert (first["custom_id"], second["custom_id"]) == ("a/dynamic", "b/dynamic")
    assert second["reused_from"] == first["job_id"]
    assert first["model_id"] == second["model_id"]
    assert third["error"]["code"] == "layer_not_found"
    smallest = min(output["gzip_bytes"] for output in first["summary"]["outputs"])
    assert smallest < first["summary"]["original"]["gzip_bytes"]
    assert 0 <= first["summary"]["outputs"][0]["accuracy"] <= 1
    for name in ("a-dynamic", "b-dynamic"):
        assert (folder / "out" / name / "model.tflite").stat().st_size > 1000
    assert len((folder / "out" / "results.jsonl").read_text().splitlines()) == 2
    assert len((folder / "out" / "errors.jsonl").read_text().splitlines()) == 1

    # The same again, without what fails: nothing is computed.
    (folder / "manifest.yaml").write_text(MANIFEST.partition("items:")[0])
    assert cli.main([*arguments, manifest, "--wait", "--timeout", "60"]) == OK
    again = json.loads(capsys.readouterr().out)
    assert {item["reused_from"] for item in again["items"]} == {first["job_id"]}
    assert again["batch"]["counts"]["reused"] == 2


def test_a_batch_goes_on_when_its_worker_is_killed(stack: LocalStack, client: Client, digits: Digits) -> None:
    model = client.models.upload(digits.model)
    steps = [{"technique": "quantize", "scheme": "dynamic_int8"}]
    specs = {f"seed {seed}": {"steps": steps, "seed": seed} for seed in range(4)}
    data = client.datasets.upload(digits.data)
    batch = client.batches.create(
        models=[model.id], specs=specs, dataset_id=data.id, max_concurrent=2, reuse=False
    )
    deadline = time.monotonic() + 120
    while client.batches.get(batch.id).counts.succeeded == 0:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    stack.kill_worker()
    stack.start_worker()
    ended = client.batches.wait(batch.id, timeout=240)
    assert (ended.outcome, ended.counts.succeeded, ended.counts.reused) == ("succeeded", 4, 0)
    results = list(client.batches.results(batch.id))
    jobs = [item.job_id for item in results]
    assert len(set(jobs)) == 4
    ours = [job for job in client.jobs.list() if job.origin is not None and job.origin.id == batch.id]
    assert {job.id for job in ours} == set(jobs)
