"""Networks nobody thought of: blocks in any order, pruned at random, equal to their masked originals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.compression.backends.tensorflow._framework import keras
from tests.compression.structured.networks import conv, randomised
from tests.compression.structured.test_equivalence import assert_equal_to_masked

layers = keras.layers
Block = Callable[[Any, int], Any]


def _residual(x: Any, width: int) -> Any:
    y = conv(conv(x, width), x.shape[-1], 1)
    return layers.Add()([x, y])


def _gated(x: Any, width: int) -> Any:
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(width, 1, activation="relu")(gate)
    return layers.Multiply()([layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate), x])


def _dense_block(x: Any, width: int) -> Any:
    return layers.Concatenate()([conv(x, width), x, layers.Conv2D(2, 1)(x)])


def _grouped(x: Any, width: int) -> Any:
    groups = next(size for size in (3, 2, 1) if x.shape[-1] % size == 0)
    return layers.Conv2D(groups * width, 3, padding="same", groups=groups, activation="relu")(x)


def _in_groups(x: Any, width: int) -> Any:
    groups = next(size for size in (4, 3, 2, 1) if x.shape[-1] % size == 0)
    return layers.GroupNormalization(groups)(x)


def _there_and_back(x: Any, width: int) -> Any:
    _, height, breadth, channels = x.shape
    y = layers.Conv1D(channels, 1, activation="relu")(layers.Reshape((height * breadth, channels))(x))
    return layers.Reshape((height, breadth, -1))(y)


BLOCKS: dict[str, Block] = {
    "conv": conv,
    "depthwise": lambda x, width: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + width % 2)(
        x
    ),
    "separable": lambda x, width: layers.SeparableConv2D(width, 3, padding="same", depth_multiplier=2)(x),
    "transposed": lambda x, width: layers.Conv2DTranspose(width, 3, padding="same", activation="elu")(x),
    "per position": lambda x, width: layers.Dense(width, activation="gelu")(x),
    "residual": _residual,
    "gated": _gated,
    "dense block": _dense_block,
    "grouped": _grouped,
    "in groups": _in_groups,
    "there and back": _there_and_back,
    "normalise": lambda x, width: layers.BatchNormalization()(x),
    "prelu": lambda x, width: layers.PReLU()(x),
    "operations": lambda x, width: (x + 1.0) * x,
    "pad": lambda x, width: layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x)),
    "up and down": lambda x, width: layers.MaxPooling2D()(layers.UpSampling2D()(x)),
}


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    blocks=st.lists(
        st.tuples(st.sampled_from(sorted(BLOCKS)), st.integers(min_value=3, max_value=9)),
        min_size=2,
        max_size=7,
    ),
    flatten=st.booleans(),
    seed=st.integers(min_value=0, max_value=1000),
)
def test_any_sequence_of_blocks_pruned_equals_masked(
    blocks: list[tuple[str, int]], flatten: bool, seed: int
) -> None:
    image = keras.Input((6, 6, 3))
    x = conv(image, 6)
    for name, width in blocks:
        x = BLOCKS[name](x, width)
    x = layers.Flatten()(x) if flatten else layers.GlobalAveragePooling2D()(x)
    assert_equal_to_masked(randomised(keras.Model(image, layers.Dense(4)(x)), seed), seed, matters=False)
    keras.backend.clear_session()
