"""Removing channels gives what the original gives when they are zero: on every shape of network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow.structured import count, dependencies, remove
from tasks.compression.structured import Dependencies
from tests.compression.structured.masked import as_list, masked_outputs
from tests.compression.structured.networks import (
    LARGE,
    SMALL,
    Network,
    randomised,
    ready,
    resnet,
    sample,
)


def any_units(graph: Dependencies, seed: int, share: float = 0.4) -> Any:
    """Some units of every group that may be pruned, at least one and never all."""
    rng = np.random.default_rng(seed)
    alive = graph.everything()
    for group in graph.groups:
        if group.kept is None:
            size = min(max(1, round(share * len(group.units))), len(group.units) - 1)
            alive[rng.choice(group.units, size, replace=False)] = False
    return alive


def assert_equal_to_masked(model: Any, seed: int = 0, *, matters: bool = True) -> None:
    """`matters`: the network is known to have channels whose loss shows in every output."""
    graph = dependencies(model)
    alive = any_units(graph, seed)
    x = sample(model)
    expected = masked_outputs(graph, alive, x)
    whole = as_list(model(x, training=False))

    pruned = remove(graph, alive)

    for one, other, before in zip(as_list(pruned(x, training=False)), expected, whole, strict=True):
        scale = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * scale)
        assert not matters or np.abs(other - before).max() > 1e-3 * scale
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    cost = count(pruned)
    assert (cost.parameters, cost.macs) == (graph.parameters(alive), graph.macs(alive))
    assert cost.parameters == pruned.count_params()
    assert (cost.parameters < model.count_params()) == (not alive.all())


@pytest.mark.ends
@pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)
def test_pruned_equals_masked_original(network: Network) -> None:
    assert_equal_to_masked(ready(network))


def test_pruned_resnet_20_equals_masked_original() -> None:
    assert_equal_to_masked(randomised(resnet(blocks=3)))


@pytest.mark.ends
@pytest.mark.slow
@pytest.mark.parametrize("network", LARGE, ids=lambda network: network.__name__)
def test_pruned_published_architecture_equals_masked_original(network: Network) -> None:
    assert_equal_to_masked(ready(network))
