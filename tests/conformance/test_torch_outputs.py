from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import OutputFormat
from tasks.compression import compress
from tasks.compression.litert import Program
from tasks.compression.onnx_program import OnnxProgram
from tasks.compression.outputs import FILES
from tasks.compression.samples import Array
from tests.compression.networks import digits
from tests.conformance.exported import export, trained
from tests.conformance.outputs import OutputsConformance, as_float


class DigitClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.logits = nn.Linear(8 * 11 * 11, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(image.unsqueeze(1))))
        return self.logits(torch.relu(self.depthwise(x)).flatten(1))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "cnn.pt2"
    path.write_bytes(export(trained(DigitClassifier(), *digits()), 28, 28, most=1024))
    return path


class TestTorchOutputs(OutputsConformance):
    native: OutputFormat = "pt2"
    formats: tuple[OutputFormat, ...] = ("tflite", "pt2", "c_array", "onnx", "pte")
    # dynamic_int8 is there in every one of them.
    float_formats: tuple[OutputFormat, ...] = ()

    def answers(self, output: str, path: Path, x: Array) -> Array:
        if output == "onnx":
            return as_float(np.asarray(OnnxProgram(path).predict(x)))
        if output == "tflite":
            return as_float(np.asarray(Program(path.read_bytes()).predict(x)))
        if output == "pte":
            from executorch.runtime import Runtime

            # It holds the bytes that its methods read.
            program = Runtime.get().load_program(path.read_bytes())
            forward = program.load_method("forward")
            each = [
                forward.execute([torch.from_numpy(x[i : i + 1])])[0].numpy().copy() for i in range(len(x))
            ]
            return as_float(np.concatenate(each))
        import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401

        return as_float(torch.export.load(path).module()(torch.from_numpy(x)).detach().numpy())

    def test_without_quantisation_all_formats_answer_alike(
        self, model_file: Path, samples: Array, tmp_path: Path
    ) -> None:
        formats: tuple[OutputFormat, ...] = ("pt2", "tflite", "onnx", "pte")
        spec = {"steps": [{"technique": "prune"}], "outputs": formats}
        report = compress(model_file, spec, workdir=tmp_path).report
        reference = self.answers("pt2", tmp_path / "out" / FILES["pt2"], samples)
        for output, told in zip(formats, report.outputs, strict=True):
            assert told.scheme == "float32"
            assert told.nonzero_parameters is not None
            assert told.parameters is not None
            assert told.nonzero_parameters < 0.6 * told.parameters
            found = self.answers(output, tmp_path / "out" / FILES[output], samples)
            np.testing.assert_allclose(found, reference, atol=1e-4 * float(abs(reference).max()))
