from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from featherweight.spec import Quantize
from tasks.compression.backends.torch.onnx import quantized_onnx, write_onnx
from tasks.compression.onnx_program import OnnxProgram
from tests.compression.torch.quantizable import HELD_OUT, accuracy, answers, classifier, images

LAYERS = {"stem.0", "depthwise", "mixed", "head.1", "head.4"}


def answered(path: Path) -> Any:
    return OnnxProgram(path).predict(images()[0][-HELD_OUT:])


def test_file_answers_like_the_network_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(classifier(), path)
    np.testing.assert_allclose(answered(path), answers(classifier()), atol=1e-4)
    content = path.read_bytes()
    assert b"quantizable.py" not in content, "it says where it was made"
    write_onnx(classifier(), path)
    assert path.read_bytes() == content
    graph = onnx.load(path).graph
    assert [item.name for item in graph.input] == ["image"]
    assert [item.name for item in graph.output] == ["scores"]


@pytest.mark.parametrize(
    ("options", "narrow"),
    [
        ({"scheme": "full_int8"}, LAYERS),
        ({"scheme": "full_int8", "granularity": "per_tensor"}, LAYERS),
        # Convolutions have no kernel that quantises what comes in while running.
        ({"scheme": "dynamic_int8"}, {"head.1", "head.4"}),
        ({"scheme": "float16"}, LAYERS),
    ],
    ids=["full_int8", "per_tensor", "dynamic_int8", "float16"],
)
def test_weights_are_stored_narrow(tmp_path: Path, options: dict[str, Any], narrow: set[str]) -> None:
    step = Quantize.model_validate({"technique": "quantize", **options})
    content, types = quantized_onnx(classifier(), step, images()[0][:100], frozenset(["head.4"]))
    (tmp_path / "model.onnx").write_bytes(content)
    dtype = "float16" if step.scheme == "float16" else "int8"
    assert types == {name: dtype if name in narrow - {"head.4"} else "float32" for name in LAYERS}
    assert accuracy(answered(tmp_path / "model.onnx")) > accuracy(answers(classifier())) - 0.02
    scales = {
        item.name: int(np.prod(item.dims)) for item in onnx.load_model_from_string(content).graph.initializer
    }
    if step.scheme == "full_int8":
        assert scales["mixed.weight_scale"] == (16 if step.granularity == "per_channel" else 1)
    # The float weights alone are 116,000 bytes.
    assert len(content) < (70_000 if dtype == "float16" else 50_000)
