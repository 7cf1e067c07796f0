"""Between Keras 3, which callers save, and Keras 2 (tf_keras), which TFMOT works on.

    to_keras2    a Keras 3 model rebuilt layer by layer in tf_keras, its weights copied
    to_keras3    the way back, for the file that is delivered
    compare      whether every layer of the one puts out what its counterpart does

Both directions walk the graph of a model, make every layer's counterpart from its configuration, call the
counterparts in the order of the graph and copy the weights. No configuration is trusted to mean the same in
both: what counts is that the answers are equal, and a model with a layer whose answers differ is refused.
"""

from __future__ import annotations

from tasks.compression.backends.tensorflow.bridge.comparison import TOLERANCE, Differs, compare
from tasks.compression.backends.tensorflow.bridge.rebuild import NoCounterpart, Rebuilt, to_keras2, to_keras3

__all__ = ["TOLERANCE", "Differs", "NoCounterpart", "Rebuilt", "compare", "to_keras2", "to_keras3"]
