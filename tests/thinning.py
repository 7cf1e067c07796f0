"""Of tests with many combinations of parameters some are run: all take longer than all other tests."""

from __future__ import annotations

import os

import pytest

__all__ = ["EVERY", "thin"]

EVERY = "FEATHERWEIGHT_EVERY_COMBINATION"
"""With this in the environment every combination is run, as ``make conformance`` does."""


def thin(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of `items` what is not run: of a conformance test all combinations but one, which is the last
    for PyTorch and the first for TensorFlow; of a test that is marked ``ends`` all but the first and the
    last."""
    if os.environ.get(EVERY):
        return
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {id(item) for group in groups.values() for item in _kept(group)}
    dropped = [item for item in items if id(item) not in kept]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if id(item) in kept]


def _kept(group: list[pytest.Item]) -> list[pytest.Item]:
    path = group[0].path
    if path.parent.name == "conformance":
        return group[-1:] if "torch" in path.stem else group[:1]
    if group[0].get_closest_marker("ends") is not None:
        return [*group[:1], *group[1:][-1:]]
    return group
