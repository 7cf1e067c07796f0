"""Exported programs, which are calls of operators, made networks of layers again.

    rebuild(program)     the network, with its signature; CompressionError for what cannot be rebuilt

    held        parameters, buffers and constants of a program, and the arguments of its calls
    making      what a converter makes of a call: a layer, the tensors it holds and what it is given
    matrices    convolutions, linear layers and embeddings      norms    recurrent
    plain       activations, pooling and dropout
    placing     where layers are put: under the names they have in the caller's model
    graph       the calls, one after the other
    signature   inputs and outputs: names, shapes and types      tokens
    comparison  whether the network answers as the program does

Nothing is guessed: a call that has no layer stays a call of the same operator, with its parameters.
"""

from __future__ import annotations

from tasks.compression.backends.torch.rebuild.network import Rebuilt, rebuild

__all__ = ["Rebuilt", "rebuild"]
