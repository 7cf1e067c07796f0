"""TensorFlow with Keras 2 (tf_keras), pruned by TFMOT and converted to LiteRT files.

Only ``_framework`` imports TensorFlow; everything here takes it from there.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["warm"]

_HEAVY = (
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
    "tasks.compression.backends.tensorflow.backend",
    "tasks.compression.backends.tensorflow.distill",
    "tasks.compression.backends.tensorflow.finetune",
    "tasks.compression.backends.tensorflow.quantize",
    "tasks.compression.backends.tensorflow.quantize_aware",
    "tasks.compression.pipeline",
)


def warm() -> None:
    """Import everything heavy and use nothing of it, so that a process can be forked afterwards.

    TensorFlow starts threads when it is first used; a fork after that hangs parent and child.
    """
    for name in _HEAVY:
        import_module(name)
    from tasks.compression.backends.tensorflow._framework import load_lazy_parts

    load_lazy_parts()
