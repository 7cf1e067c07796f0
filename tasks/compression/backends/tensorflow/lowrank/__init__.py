"""Low-rank decomposition of tf_keras models: what `tasks.compression.lowrank` asks of a framework.

    targets  the layers that can be decomposed, and why others cannot
    surgery  the model with the new layers

Importing this package loads no framework.
"""

__all__: list[str] = []
