"""Structured pruning of PyTorch networks: what `tasks.compression.structured` asks of a framework.

graph            the network as a flat list of calls
operations       the bare names of operations
rules            how channels go through a call: layer_rules, operation_rules, placing, reshaping
macs             what a call costs
dependencies     the dependency graph of a network, its cost, the smaller network
gradients        of a loss, for Taylor's importance
surgery          layers with fewer channels
comparison       that what is left answers as it should
examples         made-up samples
"""

from __future__ import annotations

from tasks.compression.backends.torch.structured.dependencies import count, dependencies
from tasks.compression.backends.torch.structured.surgery import remove

__all__ = ["count", "dependencies", "remove"]
