"""The shapes of what each operator of ONNX makes, by those of what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.compression.outline.onnx.message import Node, Shape

if TYPE_CHECKING:
    from tasks.compression.outline.onnx.shapes import Numbers, Shapes

    _Rule = Callable[[Node, list[Shape | None], Shapes], Any]

__all__ = ["RULES", "broadcast", "slices"]

_MOST_AXES = 32
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})


def broadcast(given: Sequence[Shape | None]) -> Shape | None:
    """As NumPy has it; None where one of them is not known."""
    shapes = [shape for shape in given if shape is not None]
    if len(shapes) != len(given):
        return None
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(_widest(sizes) for sizes in zip(*padded, strict=True))


def _widest(sizes: Sequence[int | None]) -> int | None:
    known = {size for size in sizes if size is not None and size != 1}
    if known:
        return max(known)
    return None if None in sizes else 1


def _reshape(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    wanted, shape = known.numbers(node.inputs[1]), given[0]
    if wanted is None:
        rank = known.of(node.inputs[1])
        return (None,) * rank[0] if rank and rank[0] is not None and rank[0] <= _MOST_AXES else None
    keeps = not node.attributes.get("allowzero")
    sizes: list[int | None] = [
        (shape[place] if shape is not None else None) if size == 0 and keeps else size
        for place, size in enumerate(wanted)
    ]
    if -1 in sizes:
        place = sizes.index(-1)
        sizes[place] = _rest(shape, sizes[:place] + sizes[place + 1 :])
    return tuple(sizes)


def _rest(shape: Shape | None, others: Sequence[int | None]) -> int | None:
    """The size that makes as many values as `shape` has: an open size on both sides is the same one."""
    if shape is None or shape.count(None) != list(others).count(None):
        return None
    whole = math.prod(size for size in shape if size is not None)
    part = math.prod(size for size in others if size is not None)
    return whole // part if part else None


def _windows(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    """Of convolutions and pools."""
    shape = given[0]
    if shape is None:
        return None
    kernel: Any = node.attributes.get("kernel_shape")
    channels = shape[1]
    if node.operator == "Conv":
        weights = given[1]
        if weights is None:
            return None
        kernel, channels = kernel or weights[2:], weights[0]
    axes = range(len(shape) - 2)
    strides, dilations, pads = _window(node, len(shape) - 2)
    return (shape[0], channels, *(
        _moved(node, shape[2 + a], kernel[a], strides[a], dilations[a], pads[a] + pads[a + len(pads) // 2])
        for a in axes
    ))  # fmt: skip


def _window(node: Node, count: int) -> tuple[list[int], list[int], list[int]]:
    told = node.attributes
    return (
        told.get("strides") or [1] * count,
        told.get("dilations") or [1] * count,
        told.get("pads") or [0] * (2 * count),
    )


def _moved(node: Node, size: int | None, kernel: int, stride: int, dilation: int, pads: int) -> int | None:
    if size is None:
        return None
    automatic = node.attributes.get("auto_pad", b"NOTSET")
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        return -(-size // stride)
    reach = (kernel - 1) * dilation + 1
    room = size + (0 if automatic == b"VALID" else pads) - reach
    return (-(-room // stride) if node.attributes.get("ceil_mode") else room // stride) + 1


def _transposed(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, weights = given[0], given[1]
    if shape is None or weights is None or weights[1] is None:
        return None
    count = len(shape) - 2
    channels = weights[1] * node.attributes.get("group", 1)
    if (told := node.attributes.get("output_shape")) is not None:
        return (shape[0], channels, *told[-count:])
    strides, dilations, pads = _window(node, count)
    kernel: Any = node.attributes.get("kernel_shape") or weights[2:]
    more = node.attributes.get("output_padding") or [0] * count
    same = node.attributes.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER")
    sizes: list[int | None] = []
    for a in range(count):
        size = shape[2 + a]
        if size is None:
            sizes.append(None)
        elif same:
            sizes.append(size * strides[a])
        else:
            reach = (kernel[a] - 1) * dilations[a] + 1
            sizes.append((size - 1) * strides[a] + more[a] + reach - pads[a] - pads[a + count])
    return (shape[0], channels, *sizes)


def _gemm(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    first, second = given[0], given[1]
    if first is None or second is None:
        return None
    rows = first[1] if node.attributes.get("transA") else first[0]
    return (rows, second[0] if node.attributes.get("transB") else second[1])


def _matmul(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    first, second = given[0], given[1]
    if not first or not second:
        return None
    left = (1, *first) if len(first) == 1 else first
    right = (*second, 1) if len(second) == 1 else second
    batch = broadcast([left[:-2], right[:-2]]) or ()
    rows = () if len(first) == 1 else (left[-2],)
    return (*batch, *rows, *(() if len(second) == 1 else (right[-1],)))


def _flatten(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, axis = given[0], node.attributes.get("axis", 1)
    return None if shape is None else (_product(shape[:axis]), _product(shape[axis:]))


def _product(sizes: Shape) -> int | None:
    open_, size = (
        [each for each in sizes if each is None],
        math.prod(each for each in sizes if each is not None),
    )
    return None if open_ else size


def _transpose(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    if shape is None:
        return None
    order = node.attributes.get("perm") or range(len(shape))[::-1]
    return tuple(shape[axis] for axis in order)


def _concat(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shapes = [shape for shape in given if shape is not None]
    if len(shapes) != len(given):
        return None
    axis = node.attributes["axis"] % len(shapes[0])
    sizes = [shape[axis] for shape in shapes]
    joined = None if None in sizes else sum(size for size in sizes if size is not None)
    return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])


def _axes(node: Node, known: Shapes, place: int = 1) -> Numbers | None:
    """An attribute in older versions of the operators, an input in newer ones; empty where there are none."""
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"])
    if len(node.inputs) <= place or not node.inputs[place]:
        return ()
    return known.numbers(node.inputs[place])


def _squeeze(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, axes = given[0], _axes(node, known)
    if shape is None or axes is None:
        return None
    gone = {axis % len(shape) for axis in axes if axis is not None}
    return tuple(size for a, size in enumerate(shape) if (a not in gone if axes else size != 1))


def _unsqueeze(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, axes = given[0], _axes(node, known)
    if shape is None or axes is None:
        return None
    rank = len(shape) + len(axes)
    new = {axis % rank for axis in axes if axis is not None}
    rest = iter(shape)
    return tuple(1 if axis in new else next(rest) for axis in range(rank))


def _reduced(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    axes = (node.attributes.get("axis", 0),) if node.operator.startswith("Arg") else _axes(node, known)
    if shape is None or axes is None:
        return None
    if not axes and node.attributes.get("noop_with_empty_axes"):
        return shape
    gone = {axis % len(shape) for axis in axes if axis is not None} if axes else set(range(len(shape)))
    keeps = node.attributes.get("keepdims", 1)
    return tuple(1 if a in gone else size for a, size in enumerate(shape) if keeps or a not in gone)


def _gather(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, indices = given[0], given[1]
    if shape is None or indices is None:
        return None
    axis = node.attributes.get("axis", 0) % len(shape)
    return (*shape[:axis], *indices, *shape[axis + 1 :])


def slices(node: Node, shape: Sequence[int | None], known: Shapes) -> dict[int, slice]:
    """By axis. KeyError where a bound is not known."""
    told = [known.numbers(name) if name else None for name in node.inputs[1:]]
    starts, ends = told[0], told[1]
    if starts is None or ends is None or None in (*starts, *ends):
        raise KeyError("bounds")
    axes = told[2] if len(told) > 2 and told[2] is not None else range(len(starts))
    steps = told[3] if len(told) > 3 and told[3] is not None else (1,) * len(starts)
    return {
        int(axis or 0) % len(shape): slice(start, end, step)
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }


def _slice(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    if shape is None:
        return None
    cut = slices(node, shape, known)
    return tuple(
        size if a not in cut else None if size is None else len(range(size)[cut[a]])
        for a, size in enumerate(shape)
    )


def _split(node: Node, given: list[Shape | None], known: Shapes) -> list[Shape | None]:
    shape = given[0]
    if shape is None:
        return []
    axis, count = node.attributes.get("axis", 0) % len(shape), len(node.outputs)
    sizes = known.numbers(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    whole = shape[axis]
    if sizes is None and whole is not None:
        part = -(-whole // count)
        sizes = (*(part,) * (count - 1), whole - part * (count - 1))
    return [(*shape[:axis], None if sizes is None else sizes[i], *shape[axis + 1 :]) for i in range(count)]


def _pad(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, pads = given[0], known.numbers(node.inputs[1])
    if shape is None or pads is None:
        return None
    axes = _axes(node, known, 3) or tuple(range(len(shape)))
    sizes = list(shape)
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        size = sizes[axis or 0]
        if size is not None and before is not None and after is not None:
            sizes[axis or 0] = size + before + after
    return tuple(sizes)


def _resize(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    if shape is None or "axes" in node.attributes:
        return None
    if len(node.inputs) > 3 and node.inputs[3]:
        wanted = known.numbers(node.inputs[3])
        return None if wanted is None else (shape[0], *wanted[1:])
    return None


def _expand(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    wanted = known.numbers(node.inputs[1])
    return None if wanted is None else broadcast([given[0], wanted])


def _blocks(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape, block = given[0], node.attributes["blocksize"]
    if shape is None or None in shape[1:]:
        return None
    channels, height, width = (size or 0 for size in shape[1:4])
    if node.operator == "DepthToSpace":
        return (shape[0], channels // block**2, height * block, width * block)
    return (shape[0], channels * block**2, height // block, width // block)


def _recurrent(node: Node, given: list[Shape | None], known: Shapes) -> list[Shape | None]:
    shape, weights = given[0], given[2]
    if shape is None or weights is None:
        return []
    directions, size = weights[0], weights[2]
    state: Shape = (directions, shape[1], size)
    return [(shape[0], directions, shape[1], size), state, state]


def _of_shape(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    return known.numbers(node.inputs[0])


def _shape(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    return (
        None if shape is None else (len(shape[node.attributes.get("start", 0) : node.attributes.get("end")]),)
    )


def _constant(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    (value,) = node.attributes.values()
    return (len(value),) if isinstance(value, list) else ()


def _pooled(node: Node, given: list[Shape | None], known: Shapes) -> Shape | None:
    shape = given[0]
    return None if shape is None else (*shape[:2], *(1,) * (len(shape) - 2))


RULES: dict[str, _Rule] = {
    "Conv": _windows, "ConvTranspose": _transposed, "Gemm": _gemm, "MatMul": _matmul, "Flatten": _flatten,
    "Reshape": _reshape, "Transpose": _transpose, "Concat": _concat, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "ArgMax": _reduced, "ArgMin": _reduced, "Gather": _gather, "Slice": _slice,
    "Split": _split, "Pad": _pad, "Resize": _resize, "Expand": _expand, "DepthToSpace": _blocks,
    "SpaceToDepth": _blocks, "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    "ConstantOfShape": _of_shape, "Shape": _shape, "Constant": _constant,
    **dict.fromkeys(_POOLS, _windows), **dict.fromkeys(_GLOBAL_POOLS, _pooled),
    **dict.fromkeys(
        (f"Reduce{name}" for name in
         ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")),
        _reduced,
    ),
}  # fmt: skip
