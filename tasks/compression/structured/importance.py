"""How much a unit matters: one number for each, lower for what is removed first.

Weight criteria (``l1``, ``l2``, ``geometric_median``, ``batchnorm_scale``) score every parameter a unit is
cut from, divide by the mean over the channels of that parameter, so that layers of different scale are
comparable, and average over the group, as DepGraph (Fang et al. 2023) does. ``taylor`` is an estimate
of the loss, comparable as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.compression.errors import CompressionError
from tasks.compression.structured.channels import Labels
from tasks.compression.structured.flows import Axis, Role
from tasks.compression.structured.framework import Loss
from tasks.compression.structured.groups import Dependencies, Parameter

__all__ = ["CRITERIA", "Batches", "Criterion", "Scores", "importance", "rankable"]

Criterion = Literal["l1", "l2", "geometric_median", "batchnorm_scale", "taylor", "random"]
CRITERIA: tuple[Criterion, ...] = ("l1", "l2", "geometric_median", "batchnorm_scale", "taylor", "random")

Scores = npt.NDArray[np.float64]
"""The importance of every unit; NaN where the criterion has nothing to say."""

Batches = Iterable[tuple[Any, Any]]

Array = npt.NDArray[Any]


def importance(
    graph: Dependencies,
    criterion: Criterion,
    *,
    seed: int = 0,
    batches: Batches | None = None,
    loss: Loss | None = None,
) -> Scores:
    """Scores of all units of a network.

    l1, l2            norms of the kernel slices that make and consume the unit (Li et al., ICLR 2017;
                      over the group: Fang et al. 2023)
    geometric_median  summed distance to the other filters of the layer: a filter near the median can be
                      expressed by others (He et al., FPGM, CVPR 2019, equation 6)
    batchnorm_scale   |gamma| of the batch normalisations it goes through (Liu et al., ICCV 2017); NaN
                      for units that go through none
    taylor            (sum of weight times gradient)^2 where the unit is consumed, averaged over `batches`
                      (Molchanov et al., CVPR 2019, equation 8): to first order the squared change of the
                      loss when the unit is removed. Needs `batches` of (inputs, targets), smaller is
                      sharper; `loss` left out is the compiled model's
    random            a baseline, drawn with `seed`

    CompressionError dataset_required or loss_not_inferable for taylor without them, not_finite when its
    gradients are not.
    """
    if criterion == "taylor":
        return _taylor(graph, batches, loss)
    if criterion == "random":
        drawn: Scores = np.random.default_rng(seed).random(graph.count)
        return drawn
    return _averaged(graph, criterion)


def rankable(graph: Dependencies, criterion: Criterion) -> npt.NDArray[np.bool_]:
    """The units a criterion has something to say of, which depends on no weight: the others score NaN."""
    known = np.zeros(graph.count, dtype=np.bool_)
    if criterion == "random":
        return ~known
    roles: tuple[Role, ...] = ("in",) if criterion == "taylor" else _WEIGHT_CRITERIA[criterion][1]
    for _, _, axis in _axes(graph, roles):
        known[axis.labels] = True
    return known


def _averaged(graph: Dependencies, criterion: Criterion) -> Scores:
    score, roles = _WEIGHT_CRITERIA[criterion]
    sums, counts = np.zeros(graph.count), np.zeros(graph.count)
    for parameter, number, axis in _axes(graph, roles):
        units, positions = np.unique(axis.labels, return_inverse=True)
        values = score(_by_unit(np.asarray(parameter.variable, dtype=np.float32), number), positions)
        mean = values.mean()
        sums[units] += values / mean if mean > 0 else np.ones_like(values)
        counts[units] += 1
    scores: Scores = np.full(graph.count, np.nan)
    np.divide(sums, counts, out=scores, where=counts > 0)
    return scores


def _axes(graph: Dependencies, roles: tuple[Role, ...]) -> Iterator[tuple[Parameter, int, Axis]]:
    for layer in graph.layers:
        for parameter in layer.parameters:
            for number, axis in parameter.axes.items():
                if axis.role in roles and len(axis.labels):
                    yield parameter, number, axis


def _by_unit(weight: Array, axis: int) -> Array:
    """One row for each channel of the axis."""
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def _l1(rows: Array, positions: Labels) -> Array:
    return np.bincount(positions, np.abs(rows).sum(axis=1, dtype=np.float64))


def _l2(rows: Array, positions: Labels) -> Array:
    return np.sqrt(np.bincount(positions, np.square(rows).sum(axis=1, dtype=np.float64)))


def _geometric_median(rows: Array, positions: Labels) -> Array:
    products = (rows @ rows.T).astype(np.float64)
    squares = np.diag(products)
    between = squares[:, None] + squares[None, :] - 2 * products
    return np.bincount(positions, np.sqrt(np.maximum(between, 0)).sum(axis=1))


_WEIGHT_CRITERIA: dict[Criterion, tuple[Callable[[Array, Labels], Array], tuple[Role, ...]]] = {
    "l1": (_l1, ("out", "in", "depthwise")),
    "l2": (_l2, ("out", "in", "depthwise")),
    "geometric_median": (_geometric_median, ("out",)),
    "batchnorm_scale": (_l1, ("scale",)),
}


def _taylor(graph: Dependencies, batches: Batches | None, loss: Loss | None) -> Scores:
    """A unit is as good as zero where it is consumed, and there its gate's gradient is that of the rows of
    the consuming kernels: x * dL/dx, summed over positions, is w * dL/dw, summed over the rows of x."""
    if batches is None:
        raise CompressionError(
            "dataset_required",
            "the criterion taylor ranks channels by gradients, which need data",
            hint="Send a data set, or choose a criterion of the weights alone, such as l1.",
        )
    consumers = list(_axes(graph, ("in",)))
    variables = [parameter.variable for parameter, _, _ in consumers]
    gradients = graph.framework.gradients(graph.model, variables, loss)
    scores, seen = np.zeros(graph.count), 0
    for x, y in batches:
        change = np.zeros(graph.count)
        for (parameter, number, axis), gradient in zip(consumers, gradients(x, y), strict=True):
            rows = _by_unit(np.asarray(parameter.variable) * gradient, number)
            change += np.bincount(axis.labels, rows.sum(axis=1, dtype=np.float64), graph.count)
        scores += np.square(change)
        seen += 1
    if not seen:
        raise CompressionError("dataset_required", "the criterion taylor was given no batch of data")
    if not np.isfinite(scores).all():
        raise CompressionError(
            "not_finite",
            "the gradients the criterion taylor ranks by are not finite: check the scale of the data",
        )
    consumed = np.zeros(graph.count, dtype=np.bool_)
    for _, _, axis in consumers:
        consumed[axis.labels] = True
    return np.where(consumed, scores / seen, np.nan)
