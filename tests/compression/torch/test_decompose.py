"""Low-rank decomposition of PyTorch networks: what is left computes what the factors amount to."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import Decompose
from tasks.compression import CompressionError, ignore
from tasks.compression.backends.torch.decompose import check, decompose
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.structured import count
from tasks.compression.backends.torch.structured.examples import example_inputs
from tasks.compression.context import Context
from tasks.compression.lowrank.factors import merged
from tasks.compression.progress import Progress
from tests.compression.torch.channel_models import network, of
from tests.compression.torch.masked import outputs

HALF = {"type": "parameters", "keep": 0.5}


def step(**options: Any) -> Decompose:
    return Decompose.model_validate({"technique": "decompose", **options})


def low_rank(found: Network, **options: Any) -> tuple[Network, Context]:
    progress = Progress(ignore, [("decompose", 1.0)])
    progress.begin()
    context = Context(0, "/steps/0", None, 0, None, progress, Path())
    return decompose(found, step(**options), context), context


def kernel(layer: Any) -> Any:
    return np.moveaxis(layer.weight.detach().numpy(), (1, 0), (-2, -1))


def truncated(found: Network, made: Network, details: dict[str, Any]) -> Any:
    """The original with each decomposed kernel set to what its parts multiply to."""
    reference = copied(found.model)
    for path, told in details["layers"].items():
        together = merged([kernel(made.model.get_submodule(part)) for part in told["layers"]])
        value = torch.from_numpy(np.moveaxis(together, (-1, -2), (0, 1)).astype(np.float32))
        with torch.no_grad():
            reference.get_submodule(path).weight.copy_(value)  # type: ignore[union-attr,operator]
    return reference


@pytest.mark.parametrize("name", ["mlp", "lenet", "resnet", "mobile", "unet", "vit", "two_heads"])
@pytest.mark.parametrize(
    "rank", [{"type": "fixed", "rank": 2}, HALF, {"type": "budget", "keep": 0.6}], ids=lambda r: r["type"]
)
def test_parts_compute_what_they_multiply_to(name: str, rank: dict[str, Any]) -> None:
    found = network(name)
    made, context = low_rank(found, rank=rank)
    details = context.record.details
    assert details["layers"]
    x = example_inputs(found.model, found.signature, 3)
    with torch.no_grad():
        expected = outputs(truncated(found, made, details)(*x))
        for one, other in zip(outputs(made.model(*x)), expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, np.abs(other).max()))
    cost = count(made.model, made.signature)
    assert (cost.parameters, cost.macs) == (details["parameters_after"], details["macs_after"])
    assert cost.parameters < details["parameters_before"]
    assert cost.macs <= details["macs_before"]
    sizes = {layer.name: layer for layer in cost.layers}
    for told in details["layers"].values():
        assert sum(sizes[part].parameters for part in told["layers"]) == told["parameters_after"]
        assert sum(sizes[part].macs for part in told["layers"]) == told["macs_after"]
        widths = [made.model.get_submodule(part).weight.shape[:2] for part in told["layers"]]
        assert all(before[0] == after[1] for before, after in pairwise(widths))  # type: ignore[index]


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(6, 8, 3, 2, 1, dilation=2),
        lambda: nn.Conv2d(6, 8, (3, 1), (1, 2), (1, 0), bias=False),
        lambda: nn.Conv2d(6, 8, 3, padding="same"),
        lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
        lambda: nn.Conv2d(6, 8, 1, 2, 1),
        lambda: nn.Conv1d(6, 8, 5, 3, padding=2, padding_mode="circular"),
        lambda: nn.Conv3d(6, 8, 2),
        lambda: nn.Linear(8, 12),
    ],
    ids=["dilated", "tall", "same", "reflected", "pointwise", "circular", "volume", "dense"],
)
def test_every_kind_of_layer_goes_over_its_input_as_before(layer: Any) -> None:
    torch.manual_seed(1)
    module = layer()
    sides = (8,) if isinstance(module, nn.Linear) else (6, *(8,) * (module.weight.dim() - 2))
    found = of(nn.Sequential(module), (sides,))
    made, context = low_rank(found, rank={"type": "fixed", "rank": 2})
    assert list(context.record.details["layers"]) == ["0"]
    x = example_inputs(found.model, found.signature, 3)
    with torch.no_grad():
        expected = truncated(found, made, context.record.details)(*x)
        np.testing.assert_allclose(made.model(*x), expected, atol=1e-5)


def test_whole_kernel_of_low_rank_loses_nothing() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(20, 16)
    with torch.no_grad():
        dense.weight.copy_(torch.randn(16, 3) @ torch.randn(3, 20))
    found = of(nn.Sequential(dense, nn.ReLU(), nn.Linear(16, 2)), ((20,),))
    made, context = low_rank(found, rank={"type": "energy", "keep": 0.99999}, layers={"include": ["0"]})
    told = context.record.details["layers"]["0"]
    assert told["ranks"] == [3]
    assert told["layers"] == ["0_in", "0"]
    assert told["energy_kept"] == pytest.approx(1.0, abs=1e-6)
    x = torch.randn(4, 20)
    with torch.no_grad():
        np.testing.assert_allclose(made.model(x), found.model(x), atol=1e-4)
    notes = {path: note.made_from for path, note in context.record.layers.items() if note.made_from}
    assert notes == {"0_in": "0", "0": "0"}


def test_layer_called_twice_has_its_parts_called_twice() -> None:
    found = network("two_heads")
    made, context = low_rank(found, rank={"type": "fixed", "rank": 2}, layers={"include": ["shared"]})
    called = [node.target for node in made.model.graph.nodes if node.op == "call_module"]
    assert called.count("shared_in") == called.count("shared") == 2
    assert context.record.details["layers"]["shared"]["macs_after"] == 2 * (8 * 2 + 2 * 8)


@pytest.mark.parametrize(
    ("module", "shape", "why"),
    [
        (lambda: nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6), "2 groups"),
        (lambda: nn.ConvTranspose2d(4, 8, 2), (4, 6, 6), "ConvTranspose2d layers have no decomposition"),
    ],
)
def test_layer_without_a_decomposition_is_refused_by_its_name(module: Any, shape: Any, why: str) -> None:
    found = of(nn.Sequential(nn.Identity(), module()), (shape,))
    with pytest.raises(CompressionError, match=why) as caught:
        check(found, step(on_unsupported="error"), "/steps/0")
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "1")
    made, context = low_rank(found)
    assert made is found
    assert why in context.record.details["left_alone"]["1"]
    assert [(warning.code, warning.layer) for warning in context.record.warnings] == [("not_decomposed", "1")]


def test_weights_that_are_not_finite_are_refused() -> None:
    found = network("mlp")
    with torch.no_grad():
        found.model.get_submodule("2").weight[0, 0] = float("nan")  # type: ignore[index]
    with pytest.raises(CompressionError) as caught:
        low_rank(found)
    assert (caught.value.code, caught.value.layer) == ("bad_model", "2")


def test_parts_are_trained_where_the_layer_was() -> None:
    found = network("mlp")
    found.model.get_submodule("2").weight.requires_grad_(False)  # type: ignore[operator]
    made, _ = low_rank(found, rank={"type": "fixed", "rank": 2})
    assert not made.model.get_submodule("2_in").weight.requires_grad
    assert made.model.get_submodule("0_in").weight.requires_grad
