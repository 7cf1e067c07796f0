"""Structured pruning of tf_keras models: what `tasks.compression.structured` asks of a framework.

    graph        the network as a flat list of layer calls
    rules        how channels go through each kind of layer
    macs         what a call costs
    dependencies the dependency graph of a model, and its cost
    gradients    of a loss, for Taylor's importance
    surgery      the smaller model

Importing this package loads no framework.
"""

from __future__ import annotations

from tasks.compression.backends.tensorflow.structured.dependencies import (
    KERAS,
    count,
    dependencies,
    outlined,
)
from tasks.compression.backends.tensorflow.structured.surgery import remove

__all__ = ["KERAS", "count", "dependencies", "outlined", "remove"]
