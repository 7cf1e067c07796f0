"""Low-rank decomposition of tf_keras models: layers replaced by two or three thinner ones.

    factors  SVD and Tucker-2 of a kernel
    ranks    what ranks cost and keep, and which to take
    targets  the layers that can be decomposed, and why others cannot
    surgery  the model with the new layers

Importing this package loads no framework.
"""

__all__: list[str] = []
