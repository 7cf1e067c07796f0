"""Structured pruning: whole channels removed, a smaller dense model left; the same for every framework.

    report = prune(dependencies(model), PruningRequest(Target("macs", 0.5), criterion="l1")).report

    framework   what is asked of a framework
    channels    labels, and what ties them
    flows       how channels go through a call
    groups      the dependency graph: what is cut when a channel goes
    importance  what a channel is worth
    request     what can be asked for, and what was done
    select      which channels go, for a target
    pruning     a plan, and carrying it out, at once or in rounds
    cost        counting parameters and multiply-accumulates

A backend's own package `structured` traces models, has the rules of its layers and makes the smaller model.
Importing this package loads no framework.
"""

from __future__ import annotations

from tasks.compression.structured.cost import LayerCost, ModelCost
from tasks.compression.structured.framework import Framework
from tasks.compression.structured.groups import Dependencies, Group, follow
from tasks.compression.structured.importance import CRITERIA, Criterion, importance
from tasks.compression.structured.pruning import (
    Plan,
    Pruned,
    Rounds,
    carry_out,
    consider,
    joined,
    plan,
    prune,
)
from tasks.compression.structured.request import (
    LayerChange,
    PruningReport,
    PruningRequest,
    Remark,
    Target,
    Untouched,
)

__all__ = [
    "CRITERIA",
    "Criterion",
    "Dependencies",
    "Framework",
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
    "follow",
    "importance",
    "joined",
    "plan",
    "prune",
]
