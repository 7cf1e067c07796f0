"""Low-rank decomposition: layers replaced by two or three thinner ones; the same for every framework.

    factors  SVD and Tucker-2 of a kernel
    ranks    what ranks cost and keep, and which to take
    choice   the ranks of a network's layers, for what a step asks
    report   what is said of it

A backend's own package `lowrank` finds the layers and makes the network with the new ones.
"""

__all__: list[str] = []
