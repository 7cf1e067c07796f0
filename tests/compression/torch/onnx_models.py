"""Small ONNX models by ONNX's own helper, in the forms that other exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["older", "saved", "two_ended", "words"]


def saved(program: Any, path: Path) -> Path:
    onnx.checker.check_model(program)
    path.write_bytes(program.SerializeToString())
    return path


def constant(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def value(name: str, *shape: int | str | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def made(graph: Any, opset: int = 17, ir: int = 8) -> Any:
    program = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    program.metadata_props.add(key="classes", value="cat,dog")
    return program


def older() -> Any:
    """Nodes without names, weights among the inputs, in Constant nodes and passed on by Identity;
    normalisation that is not part of its convolution yet; a shape that is computed."""
    chance = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Constant", [], ["k2"], value=constant("", chance.normal(size=(6, 4, 3, 3)) / 6)),
        helper.make_node("Conv", ["r", "k2"], ["d"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["d"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["samples"], axis=0),
        helper.make_node("Concat", ["samples", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["d", "to"], ["f"]),
        helper.make_node("Identity", ["w"], ["w2"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["h"], transB=1),
        helper.make_node("Gemm", ["h", "w3", "b3"], ["g"], transB=1),
        helper.make_node("Gemm", ["g", "w2", "b"], ["i"], transB=1),
        helper.make_node("Gemm", ["i", "last"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    held = [
        constant("k", chance.normal(size=(4, 1, 3, 3)) / 2),
        *(
            constant(name, np.full(4, number))
            for name, number in (("s", 1.5), ("o", 0.1), ("m", 0.2), ("v", 0.8))
        ),
        numpy_helper.from_array(np.array([0]), "zero"),
        numpy_helper.from_array(np.array([-1]), "rest"),
        constant("w", chance.normal(size=(8, 96)) / 10),
        constant("b", np.zeros(8)),
        constant("w3", chance.normal(size=(96, 8)) / 3),
        constant("b3", np.zeros(96)),
        constant("last", chance.normal(size=(8, 3))),
    ]
    inputs = [value("x", "N", 1, 8, 8), *(value(each.name, *each.dims, kind=each.data_type) for each in held)]
    return made(helper.make_graph(nodes, "older", inputs, [value("y", "N", 3)], held), opset=13, ir=3)


def two_ended() -> Any:
    """Two inputs and two outputs, whose names no TensorFlow scope would take."""
    chance = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["left:0", "a"], ["p"], name="first"),
        helper.make_node("MatMul", ["right:0", "b"], ["q"], name="second"),
        helper.make_node("Add", ["p", "q"], ["both"], name="join"),
        helper.make_node("Softmax", ["both"], ["kind:0"], name="soft", axis=-1),
        helper.make_node("MatMul", ["both", "c"], ["size:0"], name="third"),
    ]
    held = [constant("a", chance.normal(size=(6, 4))), constant("b", chance.normal(size=(5, 4))),
            constant("c", chance.normal(size=(4, 1)))]  # fmt: skip
    inputs = [value("left:0", "n", 6), value("right:0", "n", 5)]
    outputs = [value("kind:0", "n", 4), value("size:0", "n", 1)]
    return made(helper.make_graph(nodes, "two", inputs, outputs, held))


def words(samples: int | str = "n") -> Any:
    """An embedding of twelve words, averaged over six."""
    chance = np.random.default_rng(2)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], name="embed"),
        helper.make_node("ReduceMean", ["e"], ["a"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="out"),
    ]
    held = [constant("table", chance.normal(size=(12, 16))), constant("w", chance.normal(size=(16, 2)))]
    inputs = [value("ids", samples, 6, kind=TensorProto.INT64)]
    return made(helper.make_graph(nodes, "words", inputs, [value("y", samples, 2)], held))
