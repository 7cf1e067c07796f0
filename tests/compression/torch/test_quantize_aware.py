"""Rounding in training: where it happens, that it is what the file does, and what cannot learn it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import QuantizeAware
from tasks.compression import CompressionError
from tasks.compression.backends.torch.finetune import finetune
from tasks.compression.backends.torch.qat.roundings import RoundedActivation, RoundedWeight
from tasks.compression.backends.torch.qat.simulation import calibrate, rounded_weights, simulated
from tasks.compression.backends.torch.quantize_aware import check
from tasks.compression.pending import Pending
from tests.compression.torch.trainable import context_of, network_of, predict


class Block(nn.Module):
    """What LiteRT fuses: a convolution with its normalisation and ReLU, a sum with its ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dense = nn.Linear(4 * 16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.relu(self.norm(self.conv(x)))
        summed = torch.relu(self.again(first) + first)
        return self.dense(torch.flatten(self.pool(summed), 1))


def step(**options: Any) -> QuantizeAware:
    return QuantizeAware.model_validate({"technique": "quantize_aware", **options})


EVERYTHING = {"conv", "norm", "relu", "again", "pool", "dense"}


def rounded_after(quantized: set[str]) -> list[str]:
    """The nodes whose values are rounded, in order."""
    network = network_of(Block(), (1, 8, 8))
    graph = simulated(network, quantized, 8).graph
    return [node.args[0].name for node in graph.nodes if str(node.target).startswith("rounded_")]


def test_values_are_rounded_once_for_each_operation_of_the_file() -> None:
    assert rounded_after(EVERYTHING) == ["x", "relu", "again", "relu_1", "dense"]


def test_what_float_layers_give_to_rounded_ones_is_rounded() -> None:
    assert rounded_after({"dense", "pool"})[-2:] == ["relu_1", "dense"]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_weights_have_their_levels_and_the_widest_of_each_channel_stays(bits: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    rounded = RoundedWeight(layer, bits).weight().detach()
    for before, after in zip(layer.weight.detach(), rounded, strict=True):
        assert len(torch.unique(after)) <= 2**bits - 1
        assert after.abs().max() == pytest.approx(float(before.abs().max()))
    step_size = layer.weight.detach().abs().amax(dim=(1, 2, 3)) / (2 ** (bits - 1) - 1)
    stored = layer.weight.detach().abs().amax(dim=(1, 2, 3)) / (7 if bits <= 4 else 127)
    error = (rounded - layer.weight.detach()).abs().amax(dim=(1, 2, 3))
    assert (error <= step_size / 2 + stored / 2 + 1e-6).all()


def test_gradients_pass_and_zeros_stay_zeros() -> None:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[:, 1] = 0
        layer.weight[1] = 0
    wrapped = RoundedWeight(layer, 4)
    wrapped(torch.ones(3, 4)).sum().backward()
    assert torch.isfinite(wrapped.weight()).all()
    assert not wrapped.weight()[:, 1].any()
    assert not wrapped.weight()[1].any()
    assert layer.weight.grad is not None
    assert layer.weight.grad.all()


def test_activations_follow_what_they_see_and_keep_zero() -> None:
    rounding = RoundedActivation()
    rounding.measuring = True
    rounding(torch.tensor([1.0, 3.0]))
    rounding(torch.tensor([2.0, 5.0]))
    rounding.settle(widest=True)
    assert (float(rounding.low), float(rounding.high)) == (0.0, 5.0)
    rounding.train()
    rounding(torch.tensor([-10.0, 5.0]))
    assert float(rounding.low) == pytest.approx(-0.1)
    rounding.eval()
    answers = rounding(torch.linspace(-10, 10, 1001))
    assert len(torch.unique(answers)) <= 256
    assert float(rounding(torch.zeros(1))) == 0.0
    assert torch.equal(rounding(torch.tensor([3, 4])), torch.tensor([3, 4]))


def test_a_network_of_rounded_weights_is_the_simulation_without_its_activations() -> None:
    torch.manual_seed(0)
    network = network_of(Block(), (1, 8, 8))
    before = copy.deepcopy(network.model.state_dict())
    simulation = simulated(network, EVERYTHING, 4)
    samples = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)
    calibrate(simulation, network.signature, samples, widest=True)
    rounded = replace(network, model=rounded_weights(network, simulation))
    whole = predict(replace(network, model=simulation), samples)
    difference = np.abs(predict(rounded, samples) - whole).max()
    assert 0 < difference < 0.05 * np.abs(whole).max()
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"layers": {"include": ["embed"]}}, "layer_not_supported", "no selected layer with weights"),
        ({"on_unsupported": "error"}, "layer_not_supported", "Embedding"),
        ({"layers": {"include": ["none"]}}, "layer_not_found", "none"),
    ],
)
def test_layers_that_cannot_learn_are_refused_by_name(options: dict[str, Any], code: str, text: str) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(10, 4)
            self.dense = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.dense(self.embed(x).mean(1))

    with pytest.raises(CompressionError, match=text) as caught:
        check(network_of(Words(), (3,)), step(**options), "/steps/0")
    assert caught.value.code == code


def test_a_layer_called_twice_stays_float(tmp_path: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(4, 4)
            self.last = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.dense(self.dense(x)))

    with pytest.raises(CompressionError, match="several places") as caught:
        check(network_of(Twice(), (4,)), step(on_unsupported="error"), "/steps/0")
    assert caught.value.layer == "dense"


@pytest.mark.parametrize("pruned", [False, True])
def test_zeros_that_a_model_came_with_are_kept_and_told(pruned: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        module[0].weight[:, : 3 if pruned else 0] = 0
    network = network_of(module, (6,))
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(60, 6)).astype(np.float32), np.arange(60) % 3
    options = {"epochs": 1, "batch_size": 16, "loss": "sparse_categorical_crossentropy"}
    training, context = context_of(network, {"technique": "finetune", **options}, tmp_path, x=x, y=y)
    waiting = replace(network, pending=(Pending(step(), "/steps/0"),))
    trained = finetune(waiting, training, context)
    assert (trained.model.get_submodule("0").weight[:, :3] == 0).all() == pruned
    scheme = context.record.details["quantize_aware"]["scheme"]
    assert ("PQAT" in scheme) is pruned
