"""What the images hold is enough, and no more than their share of the lock."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from deploy.lock import LOCK, parse, subset

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())

WITHOUT_THE_REST = """
import json, re, sys
from importlib.machinery import PathFinder

class Image(PathFinder):
    absent, installed = map(set, json.loads(sys.argv[1]))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in cls.absent else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        for found in super().find_distributions(*args, **kwargs):
            if re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower() in cls.installed:
                yield found

sys.meta_path[sys.meta_path.index(PathFinder)] = Image
"""


def share(stage: str) -> list[str]:
    """The groups of the lock that a stage of the Dockerfile installs."""
    found = re.search(rf"deploy\.lock only (.+) > {stage}\.lock", DOCKERFILE)
    assert found is not None
    return found[1].split()


def run_with_the_share_of(stage: str, code: str) -> str:
    installed = set(parse(subset(LOCK.read_text(), share(stage)))) | {"featherweight"}
    absent = [
        name
        for name, distributions in packages_distributions().items()
        if not installed & {canonicalize_name(each) for each in distributions}
    ]
    assert "pytest" in absent
    command = [sys.executable, "-c", WITHOUT_THE_REST + code, json.dumps([absent, sorted(installed)])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_service_runs_on_its_share() -> None:
    code = """
import gunicorn.workers.gthread
import service
import tasks.plan_process
from tasks.compression.catalogue import ROWS, resolve
assert all(resolve(name) for row in ROWS for name in (row.plan, row.plan_check) if name)
http = service.create_app().test_client()
assert http.get("/healthz").json["version"] != "0+unknown"
print(http.get("/openapi.json").status_code, http.get("/metrics").status_code)
"""
    assert run_with_the_share_of("service", code).split()[-2:] == ["200", "200"]


@pytest.mark.slow
def test_the_worker_runs_on_its_share() -> None:
    code = """
import tasks.celery
from tasks.compression.backends.tensorflow import warm
warm()
from tasks.compression.catalogue import ROWS, resolve
print(len([resolve(row.handler) for row in ROWS if row.framework == "tensorflow"]))
"""
    assert int(run_with_the_share_of("worker", code).split()[-1]) >= 3


@pytest.mark.slow
def test_the_torch_worker_runs_on_its_share(tmp_path: Path) -> None:
    """What pyproject.toml says of what these packages need is put to the test: every converter converts."""
    code = f"""
import os, warnings
warnings.simplefilter("ignore")
os.environ["TORCHINDUCTOR_CACHE_DIR"] = {str(tmp_path)!r}
import tasks.celery
import torch, litert_torch, onnxruntime, torch_pruning, litert_quantizer
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

layers = torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 3)
model = torch.nn.Sequential(*layers).eval()
x = torch.randn(1, 1, 8, 8)
program = torch.export.export(model, (x,))
litert_torch.convert(model, (x,)).export({str(tmp_path / "m.tflite")!r})
torch.onnx.export(program, dynamo=True, verbose=False).save({str(tmp_path / "m.onnx")!r})
onnxruntime.InferenceSession({str(tmp_path / "m.onnx")!r})
made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
assert made.buffer
try:
    import tensorflow
except ModuleNotFoundError:
    print("without TensorFlow")
"""
    assert run_with_the_share_of("worker-torch", code).splitlines()[-1] == "without TensorFlow"
    assert {path.name for path in tmp_path.iterdir()} >= {"m.tflite", "m.onnx"}


def test_what_the_dockerfile_copies_is_not_ignored() -> None:
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        word.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
        for word in line.split()
    ]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in allowed, path


def test_no_image_runs_as_root() -> None:
    stages = re.split(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    final = {name: body for name, body in zip(stages[1::2], stages[2::2], strict=True) if "CMD" in body}
    assert set(final) == {"service", "worker", "worker-torch", "objects"}
    for body in final.values():
        assert re.search(r"^USER 10001:10001$", body, flags=re.MULTILINE)
        assert "HEALTHCHECK" in body


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_hardened_and_limited(name: str) -> None:
    container = COMPOSE["services"][name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", []))
