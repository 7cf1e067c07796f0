"""Low-rank decomposition of PyTorch networks: what `tasks.compression.lowrank` asks of a framework.

targets  the layers that can be decomposed, and why others cannot
surgery  the network with the new layers
"""

__all__: list[str] = []
