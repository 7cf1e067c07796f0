"""Memory that LiteRT sets aside, against sums done by hand from the planner's rules: tensors alive at the
same time lie side by side, each at a multiple of 64; inputs and outputs are never overwritten."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.compression.arena import arena_bytes, spanned
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.tensorflow.convert import to_tflite
from tests.compression.networks import keras


def program(*layers: Any) -> bytes:
    content: bytes = to_tflite(keras().Sequential(layers))
    return content


def test_dense_layers_need_their_two_neighbours_and_the_input() -> None:
    layers = keras().layers
    content = program(layers.Input((10,)), layers.Dense(100), layers.Dense(50), layers.Dense(3))
    # 10 floats stay; 100 and 50 are alive together; the 3 of the output go where the 100 were.
    assert arena_bytes(content) == 64 + 448 + 50 * 4


def test_unfolded_convolution_counts_and_flattening_does_not() -> None:
    layers = keras().layers
    content = program(
        layers.Input((8, 8, 1)),
        layers.Conv2D(4, 3, padding="same"),
        layers.MaxPool2D(),
        layers.Flatten(),
        layers.Dense(3),
    )
    # The convolution multiplies a matrix of 64 places by 9 values, alive with its input and its output.
    assert arena_bytes(content) == 8 * 8 * 4 + 64 * 9 * 4 + 64 * 4 * 4


def test_scratch_of_hybrid_kernels_counts_what_stays_too() -> None:
    layers = keras().layers
    model = keras().Sequential([layers.Input((100,)), layers.Dense(200), layers.Dense(50), layers.Dense(3)])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # The first layer has input, output, sums of 200 int32, the input in int8, its offset and its scale.
    busiest = 448 + 832 + 832 + 128 + 64 + 4
    kept = 832 + 50 * 4  # sums of the rows of two int8 kernels, made once
    assert arena_bytes(converter.convert()) == busiest + kept


def test_shapes_known_only_when_it_runs_are_measured_after_a_run() -> None:
    layers = keras().layers
    content = program(
        layers.Input((8, 8, 1)), layers.Conv2DTranspose(4, 3, strides=2), layers.Flatten(), layers.Dense(3)
    )
    # Input, flat copy and output in the arena; each for itself the transposed convolution's output, what it
    # adds up, 36 values for each of the 64 inputs, its kernel the other way round, two shapes and a scalar.
    planned = 64 * 4 + 17 * 17 * 4 * 4 + 48 + 3 * 4
    alone = 17 * 17 * 4 * 4 + 64 * 36 * 4 + 9 * 4 * 4 + 4 * 4 + 4
    assert arena_bytes(content) == planned + alone


def test_files_of_several_graphs_and_damaged_ones_have_none() -> None:
    layers = keras().layers
    loops = program(layers.Input((8, 4)), layers.GRU(5))
    assert arena_bytes(loops) is None
    dense = program(layers.Input((4,)), layers.Dense(2))
    assert arena_bytes(dense) is not None


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], 0),
        ([(0, 0)], 0),
        ([(640, 740)], 100),
        ([(640, 740), (640, 650), (768, 769)], 129),  # 740 ends within what 768 rounds up to
        ([(640, 740), (832, 840)], 108),  # another block
        ([(832, 840), (640, 740)], 108),
        ([(640, 740), (752, 760), (752, 760)], 108),  # one outside of arenas, close by, seen twice
    ],
)
def test_blocks_are_measured_from_end_to_end(spans: list[tuple[int, int]], expected: int) -> None:
    assert spanned(spans) == expected
