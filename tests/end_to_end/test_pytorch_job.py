"""A PyTorch model through the whole service, as docs/pytorch.md has it: exported, sent, waited for, run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import featherweight.torch
from deploy.local.stack import LocalStack
from featherweight import Client
from featherweight.report import Variant
from tasks.compression.litert import Program
from tasks.compression.onnx_program import OnnxProgram
from tests.compression.networks import digits
from tests.conformance.exported import DigitClassifier, trained_classifier
from tests.gate.onnx_files import dense

pytestmark = [pytest.mark.stack, pytest.mark.slow]

RECIPES = Path(__file__).parents[2] / "docs" / "recipes" / "pytorch"


@pytest.fixture(scope="module")
def torch_worker(stack: LocalStack) -> Iterator[LocalStack]:
    """The stack with one worker more, which takes jobs of PyTorch's models and nothing else."""
    worker = stack.start_worker(queues=["torch"])
    yield stack
    worker.stop()


@pytest.fixture(scope="module")
def network() -> DigitClassifier:
    return trained_classifier()


@pytest.mark.parametrize("recipe", ["global-60-int8", "global-60-qat-int8"])
def test_recipe_makes_files_that_run_elsewhere(
    torch_worker: LocalStack, client: Client, network: DigitClassifier, tmp_path: Path, recipe: str
) -> None:
    x, y = digits()
    np.savez(tmp_path / "digits.npz", x=x, y=y)
    path = tmp_path / "digits.pt2"
    featherweight.torch.save(network, torch.zeros(1, 28, 28), path)
    job = client.compress(path, spec=RECIPES / f"{recipe}.yaml", dataset=tmp_path / "digits.npz")
    files = job.wait(timeout=300).download(tmp_path / "out")
    report = job.report()

    assert report.original.accuracy is not None
    outputs = {item.format: item for item in report.outputs}
    assert outputs["tflite"].bytes < 0.5 * _bytes(report.baseline)
    for name, item in outputs.items():
        assert item.accuracy is not None, name
        assert item.accuracy.value > report.original.accuracy.value - 0.05, name
    # What is learned by rounding in training is LiteRT's, and the report says that the program has floats.
    left_float = [item.message for item in report.warnings if item.code == "output_left_float"]
    assert [("pt2" in each) for each in left_float] == ([True] if "qat" in recipe else [])
    sparsity = [layer.sparsity_after for layer in report.layers if layer.parameters > 100]
    assert max(sparsity) > 0.5

    program = next(file for file in files if file.name == "model.tflite")
    answers = Program(program.read_bytes()).predict(x[:200])
    assert isinstance(answers, np.ndarray)
    assert (answers.argmax(1) == y[:200]).mean() > 0.7


def test_onnx_file_is_inspected_and_quantised(
    torch_worker: LocalStack, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "dense.onnx"
    path.write_bytes(dense())
    found = client.inspect(path)
    assert (found.kind, found.usable, [layer.layer for layer in found.layers]) == (
        "onnx",
        True,
        ["fc", "relu_1"],
    )
    chance = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=chance.random((60, 4), dtype=np.float32), y=np.arange(60) % 3)
    spec = {"steps": [{"technique": "quantize", "scheme": "full_int8"}], "outputs": ["onnx"]}
    job = client.compress(path, spec=spec, dataset=tmp_path / "d.npz")
    files = {file.name: file for file in job.wait(timeout=300).download(tmp_path / "out")}
    (layer,) = job.report().layers
    assert (layer.name, layer.stored_as) == ("fc", "int8")
    x = chance.random((10, 4), dtype=np.float32)
    theirs = OnnxProgram(files["model.onnx"]).predict(x)
    np.testing.assert_allclose(np.asarray(theirs), np.asarray(OnnxProgram(path).predict(x)), atol=0.05)


def _bytes(variant: Variant | None) -> int:
    assert variant is not None
    return variant.bytes
