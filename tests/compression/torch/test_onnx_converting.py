"""Each operator that is rebuilt as a layer or function of PyTorch, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tasks.compression.backends.torch.programs.converting import converted
from tasks.compression.backends.torch.programs.loading import load_onnx
from tasks.compression.backends.torch.programs.operators import LOWERED
from tasks.compression.errors import CompressionError
from tasks.compression.outline.onnx.operators import ALLOWED, CONVERTIBLE

Constants = list[Any]

IMAGE = (4, 7, 8)
CHANCE = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return CHANCE.normal(size=shape).astype(np.float32)


def integers(*values: int) -> Any:
    return np.array(values, np.int64)


Case = tuple[str, dict[str, Any], Constants, tuple[int, ...]]
"""Operator, attributes, the constants that come after the input, and the input's shape."""

CASES: list[Case] = [
    ("Conv", {"strides": [2, 1], "pads": [1, 0, 1, 0], "group": 2}, [floats(6, 2, 3, 3), floats(6)], IMAGE),
    ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, [floats(3, 4, 3, 3)], IMAGE),
    ("Conv", {"auto_pad": "SAME_LOWER"}, [floats(3, 4, 2, 2)], IMAGE),
    ("Conv", {"pads": [0, 2]}, [floats(3, 4, 3)], (4, 9)),
    ("Conv", {}, [floats(3, 2, 2, 2, 2)], (2, 4, 4, 4)),
    (
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1], "group": 2},
        [floats(4, 3, 3, 3), floats(6)],
        IMAGE,
    ),
    ("Gemm", {"transB": 1}, [floats(3, 5), floats(3)], (5,)),
    ("Gemm", {}, [floats(5, 3), floats(1, 1)], (5,)),
    ("MatMul", {}, [floats(8, 3)], IMAGE),
    ("MatMul", {}, [floats(4, 8, 3)], IMAGE),
    ("BatchNormalization", {"epsilon": 0.01}, [floats(4), floats(4), floats(4), np.abs(floats(4))], IMAGE),
    ("BatchNormalization", {}, [floats(4), floats(4), floats(4), np.abs(floats(4))], (4,)),
    ("LayerNormalization", {"axis": -2}, [floats(7, 8), floats(7, 8)], IMAGE),
    ("MaxPool", {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [], IMAGE),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, [], IMAGE),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [], IMAGE),
    (
        "AveragePool",
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1},
        [],
        IMAGE,
    ),
    ("GlobalAveragePool", {}, [], IMAGE),
    ("GlobalMaxPool", {}, [], IMAGE),
    ("Clip", {}, [np.float32(-0.5), np.float32(0.7)], IMAGE),
    ("Clip", {}, [np.float32(0), np.float32(6)], IMAGE),
    ("PRelu", {}, [np.abs(floats(4, 1, 1))], IMAGE),
    ("HardSigmoid", {"alpha": 0.3}, [], IMAGE),
    ("Gather", {"axis": 2}, [np.array(1)], IMAGE),
    ("Reshape", {}, [integers(0, 8, -1)], IMAGE),
    ("Reshape", {}, [integers(-1, 28, 8)], IMAGE),
    ("Flatten", {}, [], IMAGE),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [], IMAGE),
    ("Concat", {"axis": 1}, [], IMAGE),
    ("Unsqueeze", {}, [integers(1, -1)], IMAGE),
    ("Squeeze", {}, [integers(1)], (1, 5)),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, [], IMAGE),
    ("ReduceSum", {}, [integers(1)], IMAGE),
    ("ReduceMax", {"axes": [-1]}, [], IMAGE),
    ("ReduceMin", {"axes": [1], "keepdims": 0}, [], IMAGE),
    ("Pad", {}, [integers(0, 0, 1, 2, 0, 1, 0, 3), np.float32(0.5)], IMAGE),
    ("Slice", {}, [integers(1, 0), integers(-1, 1 << 62), integers(2, 3), integers(1, 3)], IMAGE),
    ("Split", {"axis": 1}, [integers(1, 3)], IMAGE),
    ("Cast", {"to": 1}, [], IMAGE),
    ("Softmax", {"axis": 1}, [], IMAGE),
    ("LogSoftmax", {}, [], IMAGE),
    ("LeakyRelu", {"alpha": 0.2}, [], IMAGE),
    ("Elu", {"alpha": 0.5}, [], IMAGE),
    ("Gelu", {}, [], IMAGE),
    ("Gelu", {"approximate": "tanh"}, [], IMAGE),
    *((name, {}, [floats(4, 1, 8)], IMAGE) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    ("Pow", {}, [np.float32(2)], IMAGE),
    *(
        (name, {}, [], IMAGE)
        for name in ("Relu", "Sigmoid", "Tanh", "HardSwish", "Mish", "Softplus", "Identity")
    ),
    *(
        (name, {}, [], IMAGE)
        for name in ("Dropout", "Exp", "Neg", "Abs", "Erf", "Sin", "Cos", "Floor", "Ceil")
    ),
    *((name, {}, [], IMAGE) for name in ("Sqrt", "Log", "Reciprocal")),
]
_POSITIVE = ("Sqrt", "Log", "Reciprocal")


def written(case: Case, path: Path) -> Path:
    operator, attributes, constants, shape = case
    held = [numpy_helper.from_array(np.asarray(value), f"c{place}") for place, value in enumerate(constants)]
    given = ["a", *(item.name for item in held)] if operator != "Concat" else ["a", "a"]
    made = ["y"] if operator != "Split" else ["y", "z"]
    # What some of them are for is positive, and the input of the comparison is not.
    first = helper.make_node("Exp" if operator in _POSITIVE else "Identity", ["x"], ["a"])
    nodes = [first, helper.make_node(operator, given, made, name="it", **attributes)]
    ends = helper.make_tensor_value_info("x", 1, ["n", *shape]), helper.make_tensor_value_info("y", 1, None)
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], held)
    older = operator in ("ReduceMean", "ReduceMax", "ReduceMin")
    program = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17 if older else 20)], ir_version=9
    )
    path.write_bytes(program.SerializeToString())
    return path


def test_every_rule_is_tried_and_told_of() -> None:
    assert {case[0] for case in CASES} == set(LOWERED)
    assert set(LOWERED) <= CONVERTIBLE <= ALLOWED
    assert CONVERTIBLE - set(LOWERED) == {"Constant", "ConstantOfShape", "Range", "Shape", "Size"}


@pytest.mark.parametrize("case", CASES, ids=[f"{case[0]}-{place}" for place, case in enumerate(CASES)])
def test_rebuilt_operator_answers_as_in_onnx_runtime(case: Case, tmp_path: Path) -> None:
    """`converted` compares the two itself, and refuses what differs."""
    built = converted(load_onnx(written(case, tmp_path / "m.onnx")).network)
    assert built.program is not None


def test_network_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(("Relu", {}, [], IMAGE), tmp_path / "m.onnx")
    monkeypatch.setitem(LOWERED, "Relu", LOWERED["Sigmoid"])
    with pytest.raises(CompressionError, match="answers otherwise") as caught:
        converted(load_onnx(path).network)
    assert caught.value.code == "conversion_failed"


def test_shapes_of_every_operator_are_those_that_come_out(tmp_path: Path) -> None:
    for case in CASES:
        network = load_onnx(written(case, tmp_path / "m.onnx")).network.model
        (told,) = network.outline.shapes(network.outline.outputs)
        made = np.asarray(network.predict(np.ones((3, *case[3]), np.float32)))
        if told is not None:
            assert told == (None, *made.shape[1:]), case[0]
        else:
            assert case[0] in ("Gather",), case[0]
    assert onnx
