"""The only module that imports PyTorch and what comes with it, after setting how it is to be imported."""

from __future__ import annotations

import logging
import os
import warnings
from functools import cache
from importlib import import_module
from typing import Any

__all__ = [
    "configure_threads",
    "executorch",
    "export",
    "fx",
    "litert_torch",
    "nn",
    "torch",
    "torch_pruning",
    "torchao",
]

# Idle OpenMP threads sleep instead of spinning: several jobs may share the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# What torch.load reads of an archive are weights, whoever calls it.
os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
    from torch import export, fx, nn

logging.getLogger("torch").setLevel(logging.ERROR)


def configure_threads(threads: int) -> None:
    """Use `threads` threads in an operation; 0 leaves PyTorch's own choice, one for each core."""
    if threads:
        torch.set_num_threads(threads)


@cache
def _quietly(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            return import_module(name)
        finally:
            logging.disable(logging.NOTSET)


def torchao(module: str) -> Any:
    """``torchao.<module>``, for quantisation (4 s to import)."""
    return _quietly(f"torchao.{module}")


def litert_torch() -> Any:
    """Converts to ``.tflite`` (6 s to import)."""
    return _quietly("litert_torch")


def torch_pruning() -> Any:
    """The dependency graph of structured pruning."""
    return _quietly("torch_pruning")


def executorch(module: str) -> Any:
    """``executorch.<module>``, which writes and runs ``.pte`` files."""
    return _quietly(f"executorch.{module}")
