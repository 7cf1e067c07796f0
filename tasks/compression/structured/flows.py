"""How channels go through one call of a layer, as the rules of a framework say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.compression.structured.channels import Labels

__all__ = ["Axis", "Flow", "Opaque", "Path", "Role", "Weight"]

Role = Literal["out", "in", "depthwise", "scale", "through"]
"""What an axis of a weight does with its channels: an ``out`` axis of a kernel makes them, an ``in`` axis
consumes them, a ``depthwise`` kernel and a ``scale`` (gamma) treat each by itself, ``through`` is the rest
(biases, offsets, statistics)."""

Path = tuple[str | int, ...]
"""The way to a number of channels in what describes a layer: in Keras an entry of its config
(``("layer", "config", "units")``), in PyTorch an attribute or an argument of the call."""


@dataclass(frozen=True)
class Axis:
    labels: Labels
    role: Role


@dataclass(frozen=True)
class Weight:
    """A variable and its axes (counted from 0) that follow channels."""

    variable: Any
    axes: Mapping[int, Axis]


@dataclass(frozen=True)
class Flow:
    """The labels of the outputs, the axes of the layer's weights that follow them, and where their number is
    said besides."""

    outputs: tuple[Labels, ...]
    weights: tuple[Weight, ...] = ()
    sizes: Mapping[Path, Labels] = field(default_factory=dict)


class Opaque(Exception):
    """Channels cannot be followed through the layer, or none of them can be removed; why, as a clause."""
