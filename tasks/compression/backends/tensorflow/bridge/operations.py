"""Operations in the graph that are no layers: ``keras.ops`` of Keras 3, TensorFlow's functions in Keras 2.

Each entry of the tables takes the Keras 3 operation (its attributes are the parameters) and the tensors it
was called on. What a layer can do is made a layer: those can be pruned, cut and quantised around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tasks.compression.backends.tensorflow._framework import keras as keras2
from tasks.compression.backends.tensorflow._framework import tf

__all__ = ["ACTIVATIONS", "TO_KERAS2", "to_keras3"]

Make = Callable[..., Any]


def _merged(layer: str, function: Any) -> Make:
    """A merging layer for two tensors, TensorFlow's function for a tensor and a number."""

    def make(op: Any, left: Any, right: Any) -> Any:
        if all(_is_tensor(value) for value in (left, right)) and len(left.shape) == len(right.shape):
            return getattr(keras2.layers, layer)(name=op.name)([left, right])
        return function(left, right)

    return make


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "_keras_history")


def _plain(function: Any) -> Make:
    return lambda op, *tensors: function(*tensors)


def _reduced(function: Any) -> Make:
    return lambda op, x: function(x, axis=op.axis, keepdims=op.keepdims)


def _reshape(op: Any, x: Any) -> Any:
    shape = tuple(op.newshape)
    if shape[0] in (-1, None) and -1 not in shape[1:]:
        return keras2.layers.Reshape(shape[1:], name=op.name)(x)
    return tf.reshape(x, [-1 if size is None else size for size in shape])


def _concatenate(op: Any, tensors: Sequence[Any]) -> Any:
    return keras2.layers.Concatenate(axis=op.axis, name=op.name)(list(tensors))


def _flatten_batch(op: Any, x: Any) -> Any:
    axes = op.axes
    if axes is not None and axes[0] == 0:
        return keras2.layers.Permute([int(axis) for axis in axes[1:]], name=op.name)(x)
    return tf.transpose(x, axes)


def _activation(name: str) -> Make:
    return lambda op, x: keras2.layers.Activation(name, name=op.name)(x)


def _softmax(op: Any, x: Any) -> Any:
    return keras2.layers.Softmax(axis=op.axis, name=op.name)(x)


def _leaky(op: Any, x: Any) -> Any:
    return keras2.layers.LeakyReLU(alpha=op.negative_slope, name=op.name)(x)


def _hard_sigmoid(x: Any, name: str) -> Any:
    """relu6(x + 3) / 6, as Keras 3 has it, in the operations that LiteRT fuses."""
    shifted = keras2.layers.Rescaling(1.0, offset=3.0, name=f"{name}_shifted")(x)
    bounded = keras2.layers.ReLU(max_value=6.0, name=f"{name}_bounded")(shifted)
    return keras2.layers.Rescaling(1.0 / 6.0, name=name)(bounded)


def _hard_silu(x: Any, name: str) -> Any:
    return keras2.layers.Multiply(name=name)([x, _hard_sigmoid(x, f"{name}_gate")])


ACTIVATIONS: dict[str, Callable[[Any, str], Any]] = {
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
    "hard_swish": _hard_silu,
    "log_softmax": lambda x, name: tf.nn.log_softmax(x),
    "leaky_relu": lambda x, name: keras2.layers.LeakyReLU(alpha=0.2, name=name)(x),
}
"""Keras 3's activations that Keras 2 does not have, or has otherwise."""

TO_KERAS2: dict[str, Make] = {
    "Abs": _plain(tf.abs),
    "Absolute": _plain(tf.abs),
    "Add": _merged("Add", tf.add),
    "BroadcastTo": lambda op, x: tf.broadcast_to(x, op.shape),
    "Cast": lambda op, x: tf.cast(x, op.dtype),
    "Clip": lambda op, x: tf.clip_by_value(x, op.x_min, op.x_max),
    "Concatenate": _concatenate,
    "Divide": _plain(tf.divide),
    "Einsum": lambda op, *tensors: tf.einsum(op.subscripts, *tensors),
    "Elu": lambda op, x: keras2.layers.ELU(alpha=op.alpha, name=op.name)(x),
    "Erf": _plain(tf.math.erf),
    "Exp": _plain(tf.exp),
    "ExpandDims": lambda op, x: tf.expand_dims(x, op.axis),
    "Flip": lambda op, x: tf.reverse(x, [op.axis] if isinstance(op.axis, int) else list(op.axis)),
    "Gelu": lambda op, x: tf.nn.gelu(x, approximate=op.approximate),
    "GetItem": lambda op, x, key: x[key],
    "HardSigmoid": lambda op, x: _hard_sigmoid(x, op.name),
    "HardSilu": lambda op, x: _hard_silu(x, op.name),
    "Identity": lambda op, x: keras2.layers.Activation("linear", name=op.name)(x),
    "LeakyRelu": _leaky,
    "Log": _plain(tf.math.log),
    "LogSoftmax": lambda op, x: tf.nn.log_softmax(x, axis=op.axis),
    "Matmul": _plain(tf.matmul),
    "Max": _reduced(tf.reduce_max),
    "Maximum": _merged("Maximum", tf.maximum),
    "Mean": _reduced(tf.reduce_mean),
    "Min": _reduced(tf.reduce_min),
    "Minimum": _merged("Minimum", tf.minimum),
    "Multiply": _merged("Multiply", tf.multiply),
    "Negative": _plain(tf.negative),
    "Power": _plain(tf.pow),
    "Relu": _activation("relu"),
    "Relu6": lambda op, x: keras2.layers.ReLU(max_value=6.0, name=op.name)(x),
    "Reshape": _reshape,
    "Rsqrt": _plain(tf.math.rsqrt),
    "Selu": _activation("selu"),
    "Sigmoid": _activation("sigmoid"),
    "Silu": _activation("swish"),
    "Softmax": _softmax,
    "Softplus": _activation("softplus"),
    "Softsign": _activation("softsign"),
    "Split": lambda op, x: tf.split(x, op.indices_or_sections, axis=op.axis),
    "Sqrt": _plain(tf.sqrt),
    "Square": _plain(tf.square),
    "Squeeze": lambda op, x: tf.squeeze(x, op.axis),
    "Stack": lambda op, tensors: tf.stack(list(tensors), axis=op.axis),
    "Subtract": _merged("Subtract", tf.subtract),
    "Sum": _reduced(tf.reduce_sum),
    "Tanh": _activation("tanh"),
    "Transpose": _flatten_batch,
    "TrueDivide": _plain(tf.divide),
}


def to_keras3(ops: Any) -> dict[str, Callable[..., Any]]:
    """By TensorFlow's name of a function: what `ops` (``keras.ops``) has for it, called with TensorFlow's
    arguments.

    Those above that are no layers; in a model from Keras 2 there may be others."""

    def reduced(function: Any) -> Callable[..., Any]:
        return lambda input_tensor, axis=None, keepdims=False: function(input_tensor, axis, keepdims=keepdims)

    two = ("x", "y")
    return {
        "math.abs": _positional(ops.abs, "x"),
        "math.add": _positional(ops.add, *two),
        "broadcast_to": lambda input, shape: ops.broadcast_to(input, tuple(shape)),
        "cast": lambda x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
        "clip_by_value": _positional(ops.clip, "t", "clip_value_min", "clip_value_max"),
        "math.divide": _positional(ops.divide, *two),
        "math.truediv": _positional(ops.divide, *two),
        "einsum": ops.einsum,
        "math.erf": _positional(ops.erf, "x"),
        "math.exp": _positional(ops.exp, "x"),
        "expand_dims": _positional(ops.expand_dims, "input", "axis"),
        "reverse": lambda tensor, axis: ops.flip(tensor, tuple(axis)),
        "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
        "math.log": _positional(ops.log, "x"),
        "nn.log_softmax": lambda logits, axis=-1: ops.log_softmax(logits, axis=-1 if axis is None else axis),
        "linalg.matmul": _positional(ops.matmul, "a", "b"),
        "math.reduce_max": reduced(ops.max),
        "math.maximum": _positional(ops.maximum, *two),
        "math.reduce_mean": reduced(ops.mean),
        "math.reduce_min": reduced(ops.min),
        "math.minimum": _positional(ops.minimum, *two),
        "math.multiply": _positional(ops.multiply, *two),
        "math.negative": _positional(ops.negative, "x"),
        "math.pow": _positional(ops.power, *two),
        "reshape": lambda tensor, shape: ops.reshape(tensor, tuple(shape)),
        "math.rsqrt": _positional(ops.rsqrt, "x"),
        "split": lambda value, num_or_size_splits, axis=0: ops.split(value, num_or_size_splits, axis=axis),
        "math.sqrt": _positional(ops.sqrt, "x"),
        "math.square": _positional(ops.square, "x"),
        "squeeze": _positional(ops.squeeze, "input", "axis"),
        "stack": lambda values, axis=0: ops.stack(values, axis=axis),
        "math.subtract": _positional(ops.subtract, *two),
        "math.reduce_sum": reduced(ops.sum),
        "transpose": _positional(ops.transpose, "a", "perm"),
    }


def _positional(function: Any, *names: str) -> Callable[..., Any]:
    """`function` called with TensorFlow's arguments of the names, in that order. ValueError for others that
    are set."""

    def call(*given: Any, **named: Any) -> Any:
        rest = [named.pop(name) for name in names[len(given) :] if name in named]
        if any(value for value in named.values()):
            raise ValueError(f"the options {', '.join(sorted(named))} cannot be taken over")
        return function(*given, *rest)

    return call
