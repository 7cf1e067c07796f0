"""Models of PyTorch: told by their first bytes, and their jobs in a queue of their own."""

from __future__ import annotations

from typing import Any

import pytest

from service.projects import resume
from service.services import Services
from tasks.queue import JOB_QUEUES
from tests.gate.onnx_files import dense
from tests.service.helpers import PROJECT, Caller, assert_problem, zip_of

PROGRAM = zip_of("archive/data/weights/weight_0")
ONE_STEP = {"steps": [{"technique": "prune"}]}
OCTETS = "application/octet-stream"


def job(caller: Caller, data: bytes, **changes: Any) -> str:
    return caller.job(**{"spec": ONE_STEP, "model_id": caller.model(data), "dataset_id": None, **changes})


@pytest.mark.parametrize(
    "member",
    [
        "archive/data/weights/weight_0",
        "model/data/weights/model_weights_config.json",
        "archive/models/model.json",
        "net/archive_format",
    ],
)
def test_an_exported_program_is_a_model_of_pytorch(caller: Caller, parts: Services, member: str) -> None:
    record = parts.models.get(PROJECT, caller.model(zip_of(member)))
    assert (record.format, record.framework) == ("pt2", "torch")


def test_an_onnx_file_goes_to_the_workers_of_pytorch_and_is_quantised_alone(
    caller: Caller, parts: Services
) -> None:
    model = caller.model(dense())
    record = parts.models.get(PROJECT, model)
    assert (record.format, record.framework) == ("onnx", "torch")
    steps = [{"technique": "quantize", "scheme": "float16"}]
    body = {"model_id": model, "spec": {"steps": steps, "outputs": ["onnx"]}}
    answer = caller.post("/v1/jobs", json=body)
    assert answer.status_code == 202
    assert parts.jobs.find(answer.json["id"]).queue == "torch"  # type: ignore[union-attr]
    steps = [{"technique": "prune"}, {"technique": "quantize", "scheme": "int16x8"}]
    body = {
        "model_id": model,
        "spec": {"steps": steps, "outputs": ["onnx"]},
        "dataset_id": caller.dataset(),
    }
    pointers = {"/spec/steps/0/technique", "/spec/steps/1/scheme"}
    problem = assert_problem(caller.post("/v1/jobs", json=body), "unsupported_technique", pointers=pointers)
    assert "featherweight.torch.save" in problem["hint"]


def test_formats_are_told_by_kind_of_model(caller: Caller) -> None:
    rows = {row["technique"]: row["outputs_of_kind"] for row in caller.get("/v1/techniques").json["data"]}
    assert rows["quantize"]["onnx"] == rows["quantize"]["pt2"]
    assert rows["quantize"]["tflite"] == ["tflite", "c_array"]
    assert set(rows["prune"]) == {"keras", "pt2"}


@pytest.mark.parametrize(
    "data",
    [
        zip_of("archive/data.pkl"),
        zip_of("net/constants.pkl"),
        zip_of("net/data/0"),
        zip_of("net/code/__torch__.py"),
        b"\x80\x02}q\0.",
        b'\x40\0\0\0\0\0\0\0{"fc.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    ],
    ids=["checkpoint", "constants", "tensors-first", "torchscript", "pickle", "safetensors"],
)
def test_checkpoints_and_torchscript_are_refused_with_the_way_out(caller: Caller, data: bytes) -> None:
    problem = assert_problem(caller.post("/v1/models", data=data, content_type=OCTETS), "unknown_file_type")
    assert "featherweight.torch.save(model, example_inputs, 'model.pt2')" in problem["hint"]


def test_a_folder_of_images_may_have_any_name(caller: Caller, parts: Services) -> None:
    names = ("models/a.json", "data/weights/b.png", "data/0", "code/c.py")
    for member in (f"pictures/{name}" for name in names):
        assert parts.datasets.get(PROJECT, caller.dataset(zip_of(member))).format == "zip"


def test_jobs_wait_in_the_queue_of_their_models_framework(caller: Caller, parts: Services) -> None:
    torch = [job(caller, PROGRAM) for _ in range(2)]
    tensorflow = caller.job()
    assert [parts.jobs.find(each).queue for each in (*torch, tensorflow)] == ["torch", "torch", "tensorflow"]  # type: ignore[union-attr]
    assert [parts.queue.waiting(queue) for queue in JOB_QUEUES] == [1, 2]
    assert parts.queue.hinted("torch") == set(torch)
    # A message of one queue claims the jobs of that queue alone, whatever waits in the other.
    claims = [parts.jobs.claim(torch[0], "worker") for _ in range(3)]
    assert [claim and claim.job_id for claim in claims] == [*torch, None]
    last = parts.jobs.claim(tensorflow, "worker")
    assert last is not None
    assert last.job_id == tensorflow


def test_formats_of_the_other_framework_are_refused(caller: Caller) -> None:
    body = {"model_id": caller.model(PROGRAM), "spec": {**ONE_STEP, "outputs": ["pt2", "keras"]}}
    answer = caller.post("/v1/jobs", json=body)
    problem = assert_problem(answer, "unsupported_output", pointers={"/spec/outputs/1"})
    assert "pt2" in problem["detail"]
    body = {"model_id": caller.model(), "spec": {**ONE_STEP, "outputs": ["pt2"]}}
    assert_problem(caller.post("/v1/jobs", json=body), "unsupported_output", pointers={"/spec/outputs/0"})


def test_a_resumed_projects_jobs_are_announced_in_each_queue(
    caller: Caller, parts: Services, admin: Caller
) -> None:
    jobs = {"torch": job(caller, PROGRAM), "tensorflow": caller.job()}
    parts.pauses.pause(PROJECT)
    for queue in JOB_QUEUES:
        parts.redis.delete(queue)
    resume(parts, PROJECT)
    assert {queue: parts.queue.hinted(queue) for queue in JOB_QUEUES} == {
        queue: {each} for queue, each in jobs.items()
    }
