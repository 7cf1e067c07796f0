"""The shapes of what layers answer, from their configuration and the shapes of what they are given.

Shapes have the batch axis first; None stands for an open size, and for a whole shape that cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil, prod
from typing import Any

__all__ = ["output_shapes"]

Shape = tuple[int | None, ...]
Config = Mapping[str, Any]
Rule = Callable[[Config, Sequence[Shape]], "Shape | list[Shape] | None"]


def output_shapes(
    kind: str, config: Config, inputs: Sequence[Shape | None], keywords: Mapping[str, Any]
) -> list[Shape | None]:
    """Of every output of one call of a Keras layer; [None] where they do not follow from these."""
    if kind == "InputLayer":
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        return [_sizes(shape)]
    rule = _RULES.get(kind)
    known = [shape for shape in inputs if shape is not None]
    if rule is None or not known or len(known) != len(inputs):
        return [None]
    try:
        found = rule({**config, "_call": keywords}, known)
    # A configuration that contradicts itself: Keras will refuse it when it is loaded.
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError):
        return [None]
    return list(found) if isinstance(found, list) else [found]


def _sizes(value: Any) -> Shape | None:
    if not isinstance(value, list | tuple):
        return None
    return tuple(size if isinstance(size, int) else None for size in value)


def _first(config: Config) -> bool:
    return config.get("data_format") == "channels_first"


def _split(shape: Shape, config: Config) -> tuple[Shape, int | None]:
    """The spatial sizes and the channels."""
    return (shape[2:], shape[1]) if _first(config) else (shape[1:-1], shape[-1])


def _joined(batch: int | None, spatial: Sequence[int | None], channels: int | None, config: Config) -> Shape:
    return (batch, channels, *spatial) if _first(config) else (batch, *spatial, channels)


def _many(value: Any, count: int) -> list[int]:
    return [int(each) for each in value] if isinstance(value, list | tuple) else [int(value)] * count


def _slide(size: int | None, window: int, stride: int, padding: str, dilation: int = 1) -> int | None:
    if size is None:
        return None
    if padding in ("same", "causal"):
        return ceil(size / stride)
    return max(0, (size - (window - 1) * dilation - 1) // stride + 1)


def _slid(config: Config, shape: Shape, channels: Any, window: str = "kernel_size") -> Shape:
    spatial, given = _split(shape, config)
    count = len(spatial)
    windows = _many(config[window], count)
    strides = _many(config.get("strides") or config[window], count)
    dilations = _many(config.get("dilation_rate", 1), count)
    sizes = [
        _slide(size, windows[i], strides[i], config.get("padding", "valid"), dilations[i])
        for i, size in enumerate(spatial)
    ]
    return _joined(shape[0], sizes, given if channels is None else channels, config)


def _convolution(config: Config, shapes: Sequence[Shape]) -> Shape:
    return _slid(config, shapes[0], int(config["filters"]))


def _depthwise(config: Config, shapes: Sequence[Shape]) -> Shape:
    _, given = _split(shapes[0], config)
    made = None if given is None else given * int(config.get("depth_multiplier", 1))
    return _slid(config, shapes[0], made)


def _transposed(config: Config, shapes: Sequence[Shape]) -> Shape:
    spatial, _ = _split(shapes[0], config)
    count = len(spatial)
    windows, strides = _many(config["kernel_size"], count), _many(config.get("strides", 1), count)
    dilations = _many(config.get("dilation_rate", 1), count)
    extra = config.get("output_padding")
    extras = [None] * count if extra is None else _many(extra, count)
    sizes: list[int | None] = []
    for i, size in enumerate(spatial):
        window = windows[i] + (windows[i] - 1) * (dilations[i] - 1)
        if size is None:
            sizes.append(None)
        elif extras[i] is not None:
            pad = window // 2 if config.get("padding") == "same" else 0
            sizes.append((size - 1) * strides[i] + window - 2 * pad + (extras[i] or 0))
        elif config.get("padding") == "same":
            sizes.append(size * strides[i])
        else:
            sizes.append(size * strides[i] + max(window - strides[i], 0))
    return _joined(shapes[0][0], sizes, int(config["filters"]), config)


def _pooling(config: Config, shapes: Sequence[Shape]) -> Shape:
    return _slid(config, shapes[0], None, "pool_size")


def _global_pooling(config: Config, shapes: Sequence[Shape]) -> Shape:
    spatial, channels = _split(shapes[0], config)
    if config.get("keepdims"):
        return _joined(shapes[0][0], [1] * len(spatial), channels, config)
    return (shapes[0][0], channels)


def _dense(config: Config, shapes: Sequence[Shape]) -> Shape:
    return (*shapes[0][:-1], int(config["units"]))


def _embedding(config: Config, shapes: Sequence[Shape]) -> Shape:
    return (*shapes[0], int(config["output_dim"]))


def _flatten(_: Config, shapes: Sequence[Shape]) -> Shape:
    sizes = shapes[0][1:]
    whole = [size for size in sizes if size is not None]
    return (shapes[0][0], prod(whole) if len(whole) == len(sizes) else None)


def _reshape(config: Config, shapes: Sequence[Shape]) -> Shape:
    wanted = [int(size) for size in config["target_shape"]]
    if -1 in wanted:
        sizes = shapes[0][1:]
        whole = [size for size in sizes if size is not None]
        rest = prod(size for size in wanted if size != -1)
        free = prod(whole) // rest if len(whole) == len(sizes) else None
        return (shapes[0][0], *(free if size == -1 else size for size in wanted))
    return (shapes[0][0], *wanted)


def _permute(config: Config, shapes: Sequence[Shape]) -> Shape:
    return (shapes[0][0], *(shapes[0][int(place)] for place in config["dims"]))


def _repeat(config: Config, shapes: Sequence[Shape]) -> Shape:
    return (shapes[0][0], int(config["n"]), *shapes[0][1:])


def _edges(value: Any, count: int) -> list[tuple[int, int]]:
    pairs = value if isinstance(value, list | tuple) else [value] * count
    if count == 1 and len(pairs) == 2 and not isinstance(pairs[0], list | tuple):
        return [(int(pairs[0]), int(pairs[1]))]
    return [
        (int(pair[0]), int(pair[1])) if isinstance(pair, list | tuple) else (int(pair), int(pair))
        for pair in pairs
    ]


def _edged(sign: int, key: str) -> Rule:
    def rule(config: Config, shapes: Sequence[Shape]) -> Shape:
        spatial, channels = _split(shapes[0], config)
        pairs = _edges(config[key], len(spatial))
        sizes = [
            None if size is None else size + sign * sum(pairs[place]) for place, size in enumerate(spatial)
        ]
        return _joined(shapes[0][0], sizes, channels, config)

    return rule


def _upsampled(config: Config, shapes: Sequence[Shape]) -> Shape:
    spatial, channels = _split(shapes[0], config)
    times = _many(config.get("size", 2), len(spatial))
    sizes = [None if size is None else size * times[place] for place, size in enumerate(spatial)]
    return _joined(shapes[0][0], sizes, channels, config)


def _resized(config: Config, shapes: Sequence[Shape]) -> Shape:
    _, channels = _split(shapes[0], config)
    return _joined(shapes[0][0], [int(config["height"]), int(config["width"])], channels, config)


def _recurrent(config: Config, shapes: Sequence[Shape]) -> list[Shape]:
    batch, units = shapes[0][0], int(config["units"])
    answer = (batch, shapes[0][1], units) if config.get("return_sequences") else (batch, units)
    states = int(config.get("_states", 0)) if config.get("return_state") else 0
    return [answer, *[(batch, units)] * states]


def _lstm(config: Config, shapes: Sequence[Shape]) -> list[Shape]:
    return _recurrent({**config, "_states": 2}, shapes)


def _one_state(config: Config, shapes: Sequence[Shape]) -> list[Shape]:
    return _recurrent({**config, "_states": 1}, shapes)


def _bidirectional(config: Config, shapes: Sequence[Shape]) -> list[Shape] | None:
    inner, other = config["layer"], config.get("backward_layer") or config["layer"]
    found = output_shapes(inner["class_name"], inner["config"], shapes[:1], {})
    behind = output_shapes(other["class_name"], other["config"], shapes[:1], {})
    (answer, *states), (back, *ends) = found, behind
    if answer is None or back is None:
        return None
    merge = config.get("merge_mode", "concat")
    if merge is None:
        merged = [answer, back]
    elif merge == "concat":
        merged = [_concatenated({"axis": -1}, [answer, back])]
    else:
        merged = [answer]
    return [*merged, *(state for state in (*states, *ends) if state is not None)]


def _time_distributed(config: Config, shapes: Sequence[Shape]) -> Shape | None:
    inner = config["layer"]
    step = (shapes[0][0], *shapes[0][2:])
    (found, *_) = output_shapes(inner["class_name"], inner["config"], [step], {})
    return None if found is None else (shapes[0][0], shapes[0][1], *found[1:])


def _same(_: Config, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def _broadcast(_: Config, shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    padded = [(*[1] * (rank - len(shape)), *shape) for shape in shapes]
    sizes: list[int | None] = []
    for column in zip(*padded, strict=True):
        large = [size for size in column if size is not None and size != 1]
        sizes.append(large[0] if large else (None if None in column else 1))
    return tuple(sizes)


def _concatenated(config: Config, shapes: Sequence[Shape]) -> Shape:
    axis = int(config.get("axis", -1)) % len(shapes[0])
    along = [shape[axis] for shape in shapes]
    size = None if None in along else sum(size or 0 for size in along)
    return (*shapes[0][:axis], size, *shapes[0][axis + 1 :])


def _operation(config: Config, shapes: Sequence[Shape]) -> Shape | None:
    """TensorFlow functions: element by element, reductions and concatenation."""
    symbol, keywords = str(config.get("function", "")), config["_call"]
    if symbol.startswith("math.reduce_"):
        axis = keywords.get("axis")
        if axis is None:
            return None
        axes = {int(one) % len(shapes[0]) for one in (axis if isinstance(axis, list) else [axis])}
        kept = keywords.get("keepdims")
        return tuple(
            1 if place in axes else size for place, size in enumerate(shapes[0]) if kept or place not in axes
        )
    if symbol == "concat":
        return _concatenated({"axis": keywords.get("axis", -1)}, shapes)
    if symbol.startswith(("math.", "nn.", "__operators__.", "keras.activations.")) or symbol in (
        "cast",
        "identity",
        "clip_by_value",
    ):
        return None if symbol.endswith(("getitem", "matmul")) else _broadcast(config, shapes)
    return None


_RULES: dict[str, Rule] = {
    **dict.fromkeys([f"Conv{n}D" for n in (1, 2, 3)], _convolution),
    **dict.fromkeys([f"SeparableConv{n}D" for n in (1, 2)], _convolution),
    **dict.fromkeys([f"Conv{n}DTranspose" for n in (1, 2, 3)], _transposed),
    **dict.fromkeys([f"DepthwiseConv{n}D" for n in (1, 2)], _depthwise),
    **dict.fromkeys([f"LocallyConnected{n}D" for n in (1, 2)], _convolution),
    **dict.fromkeys([f"{what}Pooling{n}D" for what in ("Max", "Average") for n in (1, 2, 3)], _pooling),
    **dict.fromkeys(
        [f"Global{what}Pooling{n}D" for what in ("Max", "Average") for n in (1, 2, 3)], _global_pooling
    ),
    "Dense": _dense,
    "Embedding": _embedding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    **dict.fromkeys([f"ZeroPadding{n}D" for n in (1, 2, 3)], _edged(1, "padding")),
    **dict.fromkeys([f"Cropping{n}D" for n in (1, 2, 3)], _edged(-1, "cropping")),
    **dict.fromkeys([f"UpSampling{n}D" for n in (1, 2, 3)], _upsampled),
    "Resizing": _resized,
    "LSTM": _lstm,
    **dict.fromkeys(["GRU", "SimpleRNN"], _one_state),
    "Bidirectional": _bidirectional,
    "TimeDistributed": _time_distributed,
    "Concatenate": _concatenated,
    **dict.fromkeys(["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"], _broadcast),
    "TFOpLambda": _operation,
    **dict.fromkeys(
        [
            *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "ThresholdedReLU", "Softmax", "Identity"),
            *("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
            *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Masking", "Rescaling"),
            *("Normalization", "BatchNormalization", "SyncBatchNormalization", "LayerNormalization"),
            *("GroupNormalization", "UnitNormalization", "SpectralNormalization"),
            *("RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
            *("MultiHeadAttention",),
        ],
        _same,
    ),
}
