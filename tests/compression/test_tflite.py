from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.tracing import trace
from tasks.compression.contents import contents
from tasks.compression.litert import Program, same_answers
from tasks.compression.tflite import operations, read, strip, tensors, written
from tests.compression.networks import keras


@pytest.fixture(scope="module")
def model() -> Any:
    """What fuses, shares, nests and branches."""
    layers = keras().layers
    keras().utils.set_random_seed(0)
    inner = keras().Sequential([layers.InputLayer((8,)), layers.Dense(8, name="deep")], name="inner")
    image = layers.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="plain")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Add()([x, layers.SeparableConv2D(8, 3, padding="same", name="separable")(x)])
    x = layers.Conv2DTranspose(8, 2, strides=2, name="up")(x)
    twice = layers.Dense(8, activation="relu", name="twice")
    x = inner(twice(twice(layers.GlobalAveragePooling2D()(x))))
    x = layers.Dense(8, name="dense_1")(x)
    return keras().Model(image, layers.Dense(10, activation="softmax", name="out")(x), name="net")


@pytest.fixture(scope="module")
def content(model: Any) -> bytes:
    return to_tflite(model)


def test_operations_are_traced_to_their_layers(model: Any, content: bytes) -> None:
    found = [
        (item.operation.kind, item.layer)
        for item in trace(model, content)
        if item.operation.weights is not None
    ]
    assert found == [
        ("CONV_2D", "plain"),
        ("DEPTHWISE_CONV_2D", "separable"),
        ("CONV_2D", "separable"),
        ("TRANSPOSE_CONV", "up"),
        ("FULLY_CONNECTED", "twice"),
        ("FULLY_CONNECTED", "twice"),
        ("FULLY_CONNECTED", "inner/deep"),
        ("FULLY_CONNECTED", "dense_1"),
        ("FULLY_CONNECTED", "out"),
    ]


def test_stripped_file_answers_the_same(content: bytes) -> None:
    small = strip(content)
    x = np.random.default_rng(0).random((7, 12, 12, 3), dtype=np.float32)
    assert np.array_equal(Program(small).predict(x), Program(content).predict(x))
    assert same_answers(content, small)
    assert len(small) < len(content) - 1000
    assert strip(small) == small


def test_stripped_file_keeps_in_and_outputs_and_their_signature(content: bytes) -> None:
    from ai_edge_litert.interpreter import Interpreter

    small = strip(content)
    names = {tensor.name for tensor in tensors(small)} - {""}
    assert all(name.startswith(("serving_default_", "StatefulPartitionedCall")) for name in names)
    assert len(names) == 2
    runners = [Interpreter(model_content=item).get_signature_list() for item in (content, small)]
    assert runners[0] == runners[1]
    assert [item.kind for item in operations(small)] == [item.kind for item in operations(content)]


def test_another_program_does_not_answer_the_same(model: Any, content: bytes) -> None:
    other = keras().models.clone_model(model)
    assert not same_answers(content, to_tflite(other))


def test_weights_behind_the_tables_are_read_as_those_in_them(content: bytes) -> None:
    model = read(content)
    held = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    values = bytes(bytearray(held.data))
    held.data, held.offset, held.size = None, 1 << 40, len(values)
    held.offset = len(written(model, len(content)))
    outside = written(model, len(content)) + values
    assert contents(outside) == contents(content)
    again = read(written(read(outside), len(outside)))
    assert any(
        buffer.data is not None and bytes(bytearray(buffer.data)) == values for buffer in again.buffers
    )
