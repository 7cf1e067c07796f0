from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import Quantize
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.pte import quantized_pte, write_pte
from tasks.compression.backends.torch.written import predict_written
from tasks.compression.samples import Samples
from tests.compression.torch.quantizable import (
    HELD_OUT,
    accuracy,
    answers,
    classifier,
    images,
    network_of,
)

LAYERS = {"stem.0", "depthwise", "mixed", "head.1", "head.4"}


def test_float_file_answers_like_the_network_and_is_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    write_pte(classifier(), path)
    found = predict_written("pte", path, images()[0][-HELD_OUT:])
    np.testing.assert_allclose(found, answers(classifier()), atol=1e-3)
    content = path.read_bytes()
    write_pte(classifier(), path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "narrow"),
    [
        ({"scheme": "full_int8"}, LAYERS),
        ({"scheme": "dynamic_int8"}, {"head.1", "head.4"}),
    ],
    ids=["full_int8", "dynamic_int8"],
)
def test_quantised_file_is_smaller_and_as_good(
    tmp_path: Path, options: dict[str, Any], narrow: set[str]
) -> None:
    step = Quantize.model_validate({"technique": "quantize", **options})
    samples = images()[0][:60] if step.calibrates else None
    content, types = quantized_pte(classifier(), step, samples, frozenset(["head.4"]))
    assert types == {name: "int8" if name in narrow - {"head.4"} else "float32" for name in LAYERS}
    path = tmp_path / "model.pte"
    path.write_bytes(content)
    assert (
        accuracy(predict_written("pte", path, images()[0][-HELD_OUT:]))
        > accuracy(answers(classifier())) - 0.02
    )
    # The float weights alone are 116,000 bytes.
    assert len(content) < 60_000


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, image: torch.Tensor, more: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joined = self.first(image) + self.second(more)
        return joined.sum(dim=1, keepdim=True), torch.softmax(joined, dim=1)


def test_outputs_keep_their_names(tmp_path: Path) -> None:
    network = network_of(Several(), (5,), (3,), outputs=("size", "kind"))
    generator = np.random.default_rng(0)
    arrays = tuple(generator.random((4, width), dtype=np.float32) for width in (5, 3))
    x = Samples(("image", "more"), arrays)
    write_pte(network, tmp_path / "model.pte")
    found = predict_written("pte", tmp_path / "model.pte", x)
    reference = predict(network.model, network.signature, x)
    assert isinstance(found, Samples)
    assert isinstance(reference, Samples)
    for name in ("size", "kind"):
        np.testing.assert_allclose(found.of(name), reference.of(name), atol=1e-5)


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    path.write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(ValueError, match=r"\w"):
        predict_written("pte", path, images()[0][:1])
