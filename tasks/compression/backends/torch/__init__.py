"""PyTorch: exported programs, rebuilt as layers, pruned, trained and quantised.

Only ``_framework`` imports PyTorch; everything here takes it from there.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["warm"]

_HEAVY = (
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "ai_edge_litert.interpreter",
    "tasks.compression.backends.torch.backend",
    "tasks.compression.backends.torch.finetune",
    "tasks.compression.backends.torch.quantize",
    "tasks.compression.pipeline",
)


def warm() -> None:
    """Import everything heavy and use nothing of it, so that a process can be forked afterwards.

    PyTorch starts threads when it first computes; a fork after that hangs parent and child.
    """
    for name in _HEAVY:
        import_module(name)
