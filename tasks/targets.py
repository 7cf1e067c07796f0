"""Functions by name, imported only when they are called for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["resolve"]


def resolve(target: str) -> Callable[..., Any]:
    """The function named ``module:function``; ImportError or AttributeError when there is none."""
    module, _, function = target.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found
