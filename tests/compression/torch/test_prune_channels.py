"""Removing channels gives what the original gives when they are zero; which go together; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from featherweight.spec import PruneChannels
from tasks.compression import CompressionError, ignore
from tasks.compression.backends.torch._framework import torch_pruning
from tasks.compression.backends.torch.finetune import finetune
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.prune_channels import check, prune_channels
from tasks.compression.backends.torch.structured import dependencies, remove
from tasks.compression.backends.torch.structured.dependencies import smaller
from tasks.compression.backends.torch.structured.examples import example_inputs
from tasks.compression.context import Context
from tasks.compression.progress import Progress
from tasks.compression.structured import Dependencies, Group, importance
from tests.compression.torch.channel_models import NETWORKS, network, of
from tests.compression.torch.masked import Masked, outputs
from tests.compression.torch.trainable import DigitNet, context_of, network_of

LAST = "they are an output of the model"


def graph_of(found: Network) -> Dependencies:
    return dependencies(found.model, found.signature)


def group_of(graph: Dependencies, maker: str) -> Group:
    return next(group for group in graph.groups if maker in group.makers)


def any_units(graph: Dependencies, seed: int = 0) -> Any:
    """Some units of every group that may be pruned, at least one and never all."""
    rng = np.random.default_rng(seed)
    alive = graph.everything()
    for group in graph.groups:
        if group.kept is None:
            size = min(max(1, round(0.4 * len(group.units))), len(group.units) - 1)
            alive[rng.choice(group.units, size, replace=False)] = False
    return alive


def cut(found: Network, **options: Any) -> tuple[Network, Context]:
    progress = Progress(ignore, [("prune_channels", 1.0)])
    progress.begin()
    context = Context(0, "/steps/0", None, 0, None, progress, Path())
    return prune_channels(found, step(**options), context), context


def step(**options: Any) -> PruneChannels:
    return PruneChannels.model_validate({"technique": "prune_channels", **options})


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "recurrent"])
def test_removing_equals_masking(name: str) -> None:
    found = network(name)
    graph = graph_of(found)
    alive = any_units(graph)
    x = example_inputs(found.model, found.signature, 3, seed=1)

    model = remove(graph, alive)

    with torch.no_grad():
        expected, whole = outputs(Masked(graph, alive).run(*x)), outputs(found.model(*x))
        answers = outputs(model(*x))
    assert sum(value.numel() for value in model.parameters()) < sum(
        value.numel() for value in found.model.parameters()
    )
    for one, other, before in zip(answers, expected, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * max(1.0, np.abs(other).max()))
        assert np.abs(one - before).max() > 1e-4


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_units_go_from_every_gate(kind: str) -> None:
    torch.manual_seed(0)
    from tests.compression.torch.channel_models import Recurrent

    found = of(Recurrent(kind), ((5,),), ("int64",))
    graph = graph_of(found)
    alive = graph.everything()
    alive[group_of(graph, "lstm").units[[1, 4]]] = False
    silent = found.model.get_submodule("lstm")
    x = example_inputs(found.model, found.signature, 3)
    model = remove(graph, alive)
    with torch.no_grad():
        for name, value in silent.named_parameters():
            if name.startswith("weight_hh"):
                value[:, [1, 4]] = 0  # what the units told one another
            elif name.startswith("weight_ih_l1"):
                value[:, [1, 4, 9, 12]] = 0
        found.model.get_submodule("gru").weight_ih_l0[:, [1, 4, 9, 12]] = 0  # type: ignore[index]
        np.testing.assert_allclose(model(*x), found.model(*x), atol=1e-6)
    lstm: Any = model.get_submodule("lstm")
    assert lstm.hidden_size == 6
    assert model.get_submodule("gru").input_size == 12


@pytest.mark.parametrize("name", ["lenet_computed", "resnet", "unet", "mlp"])
def test_torch_pruning_finds_the_same_dependencies(name: str) -> None:
    """Its graph follows gradients, ours the layers; where both know a network they must agree."""
    found = network(name)
    graph = graph_of(found)
    x = example_inputs(found.model, found.signature, 2)
    for group in graph.groups:
        if group.kept is not None:
            continue
        alive = graph.everything()
        alive[group.units[[0, 2]]] = False
        ours = remove(graph, alive)
        theirs = network(name).model
        found_by_it = torch_pruning().DependencyGraph().build_dependency(theirs, x)
        root: Any = theirs.get_submodule(group.makers[0])
        pruner = found_by_it.get_pruner_of_module(root)
        found_by_it.get_pruning_group(root, pruner.prune_out_channels, [0, 2]).prune()
        if hasattr(theirs, "recompile"):
            theirs.eval()
        shapes = {key: tuple(value.shape) for key, value in ours.state_dict().items()}
        assert shapes == {key: tuple(value.shape) for key, value in theirs.state_dict().items()}
        with torch.no_grad():
            np.testing.assert_allclose(ours(*x), theirs(*x), atol=1e-6)


def test_groups_are_those_worked_out_by_hand() -> None:
    resnet = graph_of(network("resnet"))
    assert group_of(resnet, "stem.0").makers == ("stem.0", "layer1.0.conv2", "layer1.1.conv2")
    assert group_of(resnet, "layer2.0.conv2").makers == (
        "layer2.0.conv2",
        "layer2.0.downsample.0",
        "layer2.1.conv2",
    )
    mobile = group_of(graph_of(network("mobile")), "expand.0")
    assert mobile.makers == ("expand.0", "excite.expand")
    assert set(mobile.treated_by) >= {"expand.1", "depthwise.0", "depthwise.1"}
    shuffle = graph_of(network("shuffle"))
    assert group_of(shuffle, "stem").widths == (4,)  # one channel of each of four groups
    assert group_of(graph_of(network("halves")), "wide").widths == (2,)  # a value and its gate
    assert group_of(graph_of(network("two_heads")), "left").makers == ("left", "right")


def test_what_cannot_lose_channels_says_why() -> None:
    graph = graph_of(network("vit"))
    assert "normalises over the channels" in (group_of(graph, "patches").kept or "")
    assert "unbind" in (group_of(graph, "attention.qkv").kept or "")
    assert group_of(graph, "mlp.0").kept is None
    assert group_of(graph, "head").kept == LAST


def test_selected_layer_that_cannot_lose_channels_is_refused_by_its_name() -> None:
    found = network("vit")
    asked = step(layers={"include": ["attention.qkv"]}, on_unsupported="error")
    with pytest.raises(CompressionError) as caught:
        check(found, asked, "/steps/0")
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "attention.qkv")
    assert caught.value.pointer == "/steps/0/layers"
    made, context = cut(found, layers={"include": ["attention.qkv", "mlp.0"]})
    assert made.model.get_submodule("mlp.0").out_features == 16
    assert set(context.record.details["left_alone"]) == {"attention.qkv"}
    assert [warning.layer for warning in context.record.warnings] == ["attention.qkv"]


class Averaged(nn.Module):
    """Divides by how many channels there are: without some of them it divides by another number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return self.last(hidden / hidden.shape[1])


def test_number_of_channels_in_the_arithmetic_is_noticed() -> None:
    with pytest.raises(CompressionError) as caught:
        cut(of(Averaged(), ((4,),)))
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "first")


class Fixed(nn.Module):
    """Mixes channels by a constant in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(3, 2)
        self.mixing = nn.Parameter(torch.randn(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.matmul(self.first(x), self.mixing))


def test_operation_without_a_rule_keeps_what_meets_it() -> None:
    graph = graph_of(of(Fixed(), ((4,),)))
    assert group_of(graph, "first").kept == (
        "they meet matmul (matmul): channels cannot be followed through this kind of layer"
    )


def test_weights_that_two_layers_share_stay() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 2))
    module[2].weight = module[0].weight
    graph = graph_of(of(module, ((4,),)))
    assert graph.opaque == {"0": "it shares weights with 2"}
    assert graph.macs(graph.everything()) == 16 + 16 + 8
    assert not [group for group in graph.groups if group.kept is None]


def test_sizes_written_into_the_graph_follow_the_cut() -> None:
    found = network("lenet")
    made, context = cut(found, target={"type": "ratio", "remove": 0.5})
    (view,) = [node for node in made.model.graph.nodes if node.target == "view"]
    assert view.args[1:] == (-1, 200)
    assert context.record.details["channels"]["conv2"] == {"before": 16, "after": 8}
    assert made.model.get_submodule("fc1").in_features == 200


@pytest.mark.parametrize("measure", ["macs", "parameters"])
def test_residual_network_comes_to_half(measure: str) -> None:
    found = network("resnet")
    made, context = cut(found, target={"type": measure, "keep": 0.5}, importance="l1")
    told = context.record.details
    assert told["met"]
    assert 0.4 < told[f"{measure}_after"] / told[f"{measure}_before"] <= 0.5
    again = graph_of(made)
    assert (again.parameters(again.everything()), again.macs(again.everything())) == (
        told["parameters_after"],
        told["macs_after"],
    )
    assert found.model.get_submodule("stem.0").out_channels == 8  # the one it was made from stays
    answer = made.model(torch.randn(5, 3, 12, 12))
    assert answer.shape == (5, 10)
    assert bool(torch.isfinite(answer).all())


def test_frozen_weights_stay_frozen_and_modes_as_they_were() -> None:
    found = network("resnet")
    found.model.train()
    found.model.get_submodule("layer1.0.bn1").eval()
    found.model.get_submodule("stem.0").weight.requires_grad_(False)  # type: ignore[operator]
    made, _ = cut(found)
    assert not made.model.get_submodule("stem.0").weight.requires_grad
    assert made.model.get_submodule("fc").weight.requires_grad
    for model in (found.model, made.model):
        assert not model.get_submodule("layer1.0.bn1").training
        assert model.get_submodule("layer1.0.bn2").training


def test_least_important_channels_go() -> None:
    found = network("mlp")
    with torch.no_grad():
        layer: Any = found.model.get_submodule("0")
        layer.weight[[3, 5]] *= 1e-3
        following: Any = found.model.get_submodule("2")
        following.weight[:, [3, 5]] *= 1e-3
    kept = layer.weight.detach().numpy()[[n for n in range(16) if n not in (3, 5)]]
    for criterion in ("l1", "l2", "geometric_median"):
        made, _ = cut(
            found,
            importance=criterion,
            target={"type": "ratio", "remove": 0.125},
            layers={"include": ["0"]},
        )
        if criterion != "geometric_median":
            np.testing.assert_array_equal(made.model.get_submodule("0").weight.detach(), kept)
        assert made.model.get_submodule("0").out_features == 14


def test_taylor_squares_what_the_loss_changes_by_to_first_order() -> None:
    found = network("mlp")
    graph = graph_of(found)
    x, y = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32), np.array([0, 2])

    def loss(labels: Any, answers: Any) -> Any:
        return nn.functional.cross_entropy(answers, labels)

    scores = importance(graph, "taylor", batches=[(x, y)], loss=loss)
    hidden = torch.relu(found.model.get_submodule("0")(torch.from_numpy(x))).detach().requires_grad_()
    rest = nn.Sequential(*(found.model.get_submodule(name) for name in "234"))
    (gradient,) = torch.autograd.grad(loss(torch.from_numpy(y), rest(hidden)), hidden)
    expected = (gradient * hidden).sum(0).square().detach().numpy()
    np.testing.assert_allclose(scores[group_of(graph, "0").units], expected, rtol=1e-4)
    assert np.isnan(scores[group_of(graph, "4").units]).all()  # an output is consumed by nothing


def test_cut_that_no_layer_knows_of_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch-Pruning on a layer it does not find changes nothing, and says nothing."""
    found = network("mlp")
    graph = graph_of(found)
    monkeypatch.setattr(torch_pruning(), "prune_linear_out_channels", lambda layer, gone: layer)
    with pytest.raises(RuntimeError, match=r"0.weight has the shape \(16, 6\) after the cut"):
        smaller(found.signature, graph, any_units(graph))


def test_rounds_cut_and_train_until_the_target(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = network_of(DigitNet(), (1, 28, 28))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((160, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 160)
    waiting, told = cut(found, iterations=2, target={"type": "ratio", "remove": 0.5}, importance="taylor")
    assert waiting.model is found.model
    assert told.record.details["asked"] == pytest.approx([1 - 0.5**0.5, 0.5], abs=1e-5)
    training, context = context_of(
        found, {"technique": "finetune", "epochs": 1, "batch_size": 32}, tmp_path, x=x, y=y
    )
    trained = finetune(waiting, training, context)  # type: ignore[arg-type]
    assert trained.pending == ()
    assert trained.model.get_submodule("conv").out_channels == 3
    assert trained.model.get_submodule("logits").in_features == 3 * 64
    rounds = context.record.details["prune_channels"]["rounds"]
    assert [part["channels"]["conv"] for part in rounds] == [5, 3]
    assert [(epoch.round, epoch.epoch) for epoch in context.record.epochs] == [(1, 1), (2, 1)]
