"""Structured pruning of tf_keras models: whole channels removed, a smaller dense model left.

    report = prune(model, PruningRequest(Target("macs", 0.5), criterion="taylor"), batches=batches).report

    graph       the network as a flat list of layer calls
    channels    labels, and what ties them
    rules       how channels go through each kind of layer
    groups      the dependency graph: what is cut when a channel goes
    importance  what a channel is worth
    select      which channels go, for a target
    surgery     the smaller model
    macs        counting parameters and multiply-accumulates

Importing this package loads no framework.
"""

from __future__ import annotations

from tasks.compression.backends.tensorflow.structured.groups import Dependencies, Group, dependencies
from tasks.compression.backends.tensorflow.structured.importance import CRITERIA, Criterion, importance
from tasks.compression.backends.tensorflow.structured.macs import LayerCost, ModelCost, count
from tasks.compression.backends.tensorflow.structured.pruning import (
    Plan,
    Pruned,
    Rounds,
    carry_out,
    consider,
    joined,
    plan,
    prune,
)
from tasks.compression.backends.tensorflow.structured.request import (
    LayerChange,
    PruningReport,
    PruningRequest,
    Remark,
    Target,
    Untouched,
)
from tasks.compression.backends.tensorflow.structured.surgery import remove

__all__ = [
    "CRITERIA",
    "Criterion",
    "Dependencies",
    "Group",
    "LayerChange",
    "LayerCost",
    "ModelCost",
    "Plan",
    "Pruned",
    "PruningReport",
    "PruningRequest",
    "Remark",
    "Rounds",
    "Target",
    "Untouched",
    "carry_out",
    "consider",
    "count",
    "dependencies",
    "importance",
    "joined",
    "plan",
    "prune",
    "remove",
]
