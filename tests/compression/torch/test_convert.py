from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from tasks.compression.backends.torch.convert import to_tflite, trace
from tasks.compression.backends.torch.network import Network, Signature
from tasks.compression.backends.torch.predict import predict
from tasks.compression.backends.torch.stored import stored
from tasks.compression.errors import CompressionError
from tasks.compression.litert import Program
from tasks.compression.samples import Samples
from tasks.compression.tflite import ends
from tests.compression.torch.quantizable import HELD_OUT, answers, classifier, images, network_of


def test_file_takes_any_number_of_samples_by_the_names_of_the_signature() -> None:
    content = to_tflite(classifier())
    program = Program(content)
    assert ends(content) == (["image"], ["scores"])
    assert program.signature() == [
        ("image", "float32", (-1, 1, 28, 28)),
        ("scores", "float32", (-1, 10)),
    ]
    found = program.predict(images()[0][-HELD_OUT:])
    np.testing.assert_allclose(found, answers(classifier()), atol=1e-3)


def test_every_operation_with_weights_is_traced_to_its_layer() -> None:
    traced = trace(classifier(), to_tflite(classifier()))
    layers = [item.layer for item in traced if item.operation.weights is not None]
    # The normalisation has gone into the convolution before it.
    assert layers == ["stem.0", "depthwise", "mixed", "head.1", "head.4"]


class Alike(nn.Module):
    """Two layers with the same weights, whose paths end alike."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.layer2.load_state_dict(self.layer1.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.layer1(x)) + 1


def test_layers_that_are_alike_are_told_apart() -> None:
    network = network_of(Alike().eval(), (4,))
    traced = trace(network, to_tflite(network))
    assert [item.layer for item in traced if item.operation.weights is not None] == ["layer1.0", "layer2.0"]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    to_tflite(network_of(nn.Sequential(nn.Linear(6, 3)), (6,)))
    assert capfd.readouterr().out == ""


def test_training_mode_is_left_as_it_was_and_not_converted() -> None:
    network = network_of(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)).train(), (6,))
    x = np.ones((4, 6), np.float32)
    found = Program(to_tflite(network)).predict(x)
    assert network.model.training
    np.testing.assert_allclose(found, predict(network.model, network.signature, x), atol=1e-5)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, image: torch.Tensor, more: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        joined = torch.cat([self.first(image), self.second(more)], dim=1)
        return joined.sum(dim=1, keepdim=True), torch.softmax(joined, dim=1)


def test_several_inputs_and_outputs_go_by_their_names() -> None:
    network = network_of(Several(), (5,), (3,), outputs=("size", "kind"))
    generator = np.random.default_rng(0)
    arrays = tuple(generator.random((7, width), dtype=np.float32) for width in (5, 3))
    x = Samples(("image", "more"), arrays)
    reference = predict(network.model, network.signature, x)
    # The order of the columns is not that of the file.
    found = Program(to_tflite(network)).predict(Samples(("more", "image"), arrays[::-1]))
    assert isinstance(found, Samples)
    assert isinstance(reference, Samples)
    for name in ("size", "kind"):
        np.testing.assert_allclose(found.of(name), reference.of(name), atol=1e-5)


def test_batch_is_open_where_norms_repeat_their_statistics() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    network = network_of(module.eval(), (1, 6, 6))
    program = Program(to_tflite(network))
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6)).astype(np.float32)
    assert program.open_batch
    np.testing.assert_allclose(program.predict(x), predict(network.model, network.signature, x), atol=1e-5)


class Encoder(nn.Module):
    """Its attention puts the batch with the heads; the class token is repeated for the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.query, self.value = nn.Linear(8, 8), nn.Linear(8, 8)
        self.logits = nn.Linear(8, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embed(words)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        return self.logits(nn.functional.scaled_dot_product_attention(self.query(x), x, self.value(x))[:, 0])


def test_where_the_batch_cannot_be_opened_the_file_takes_one_sample_and_answers_right() -> None:
    signature = Signature(("words",), ((6,),), ("int64",), ("scores",))
    network = Network(fx.symbolic_trace(Encoder().eval()), signature)
    words = np.random.default_rng(0).integers(0, 11, (5, 6))
    reference = predict(network.model, network.signature, words)
    content = to_tflite(network)
    np.testing.assert_allclose(Program(content).predict(words), reference, atol=1e-5)
    layers = {item.layer for item in trace(network, content) if item.operation.weights is not None}
    assert {"query", "value", "logits"} <= layers


def test_layer_that_cannot_be_converted_is_named() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.FractionalMaxPool2d(2, output_size=4))
    with pytest.raises(CompressionError) as caught:
        to_tflite(network_of(module.eval(), (1, 12, 12)))
    assert caught.value.code == "conversion_failed"
    assert caught.value.layer == "1"


def test_open_axes_are_refused() -> None:
    signature = Signature(("x",), ((None, 4),), ("float32",), ("y",))
    with pytest.raises(CompressionError, match="open axes"):
        to_tflite(Network(fx.symbolic_trace(nn.Linear(4, 2)), signature))


def test_another_model_of_the_same_shape_is_converted_anew() -> None:
    first, second = (
        network_of(nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(slope)), (3,)) for slope in (0.1, 0.5)
    )
    second.model.load_state_dict(first.model.state_dict())
    x = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    for network in (first, second):
        found = Program(to_tflite(network)).predict(x)
        np.testing.assert_allclose(found, predict(network.model, network.signature, x), atol=1e-6)


def test_float_network_has_the_types_of_its_weights(tmp_path: Path) -> None:
    told = stored(classifier(), None)
    assert {item.dtype for item in told.values()} == {"float32"}
    assert "head.4" in told
