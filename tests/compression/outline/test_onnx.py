"""``.onnx`` files: told by their first bytes, read field by field, to the last one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression.errors import CompressionError
from tasks.compression.formats import model_format
from tasks.compression.onnx_magic import is_onnx
from tasks.compression.outline.bounds import Bounds
from tasks.compression.outline.onnx.message import read_model
from tasks.compression.outline.onnx.reading import read_onnx
from tasks.compression.outline.skeleton import cost
from tasks.sniffing import sniff
from tests.compression.outline.outcomes import outcome
from tests.gate.good_files import DATASETS, MODELS
from tests.gate.onnx_files import WEIGHTS, attribute, dense, node, tensor, value
from tests.gate.other_models import field, graph

CODES = (None, "bad_model", "unsupported_model", "model_too_large")


def test_files_are_told_by_their_first_bytes(tmp_path: Path) -> None:
    for name, make in (MODELS | DATASETS).items():
        assert is_onnx(make()[:512]) == (name == "onnx"), name
    assert sniff("model", dense()[:512]) == "onnx"
    (tmp_path / "m").write_bytes(dense(producer=""))
    assert model_format(tmp_path / "m") == "onnx"


@pytest.mark.parametrize(
    "content",
    [
        graph("Relu"),  # a SavedModel's graph begins with a version and a message too
        b"\x08\x05" + field(2, b"\x0a\x07\x0a\x05image") + field(200, b""),  # as Core ML has it
        b"\x08\x08\0\0\0\0\0\0" + b"\x12\x34\x56\x78" * 8,  # a record of that length
        b"\x08\x08",
        b"\x08\x08\x12\xff\xff\xff\xff\x0fabc",
        b"\x08\x00" + dense()[2:],
    ],
    ids=["saved_model", "coreml", "record", "nothing", "endless", "version"],
)
def test_other_files_that_begin_alike_are_none(content: bytes) -> None:
    assert not is_onnx(content)


def test_a_long_description_comes_before_the_graph() -> None:
    whole = dense()
    head, rest = whole[:9], whole[9:]
    assert rest[0] == 7 << 3 | 2
    assert is_onnx((head + field(6, "words " * 500) + rest)[:512])
    assert not is_onnx((head + field(6, b"\0" * 600) + rest)[:512])


def test_weights_are_read_however_they_are_stored() -> None:
    stored = [
        tensor("w", 3, 4, raw=WEIGHTS),
        tensor("w", 3, 4, raw=b"", more=field(4, WEIGHTS)),
        tensor("w", 3, 4, raw=b"", more=field(4, WEIGHTS[:20]) + field(4, WEIGHTS[20:])),
    ]
    for part in stored:
        content = dense(constants=[part, tensor("b", 3)])
        weights = read_model(content, Bounds()).constants["w"].values()
        np.testing.assert_array_equal(weights, np.frombuffer(WEIGHTS, "<f4"))
        (first, _) = read_onnx(content, Bounds()).layers
        assert [weight.shape for weight in first.weights] == [(3, 4), (3,)]


def test_integers_are_read_one_by_one() -> None:
    numbers = bytes([5]) + b"\xff" * 9 + b"\x01"
    shape = tensor("s", 2, raw=b"", kind=7, more=field(7, numbers))
    found = read_model(dense(constants=[tensor("w", 3, 4), tensor("b", 3), shape]), Bounds())
    assert (found.constants["s"].values() == [5, -1]).all()
    with pytest.raises(CompressionError, match="bytes instead of"):
        read_model(
            dense(constants=[tensor("w", 3, 4), tensor("b", 3), shape.replace(b"\x08\x02", b"\x08\x03", 1)]),
            Bounds(),
        )


def test_shapes_that_are_multiplied_without_end_are_not_followed() -> None:
    """Each node squares the one before it: a thousand of them would be a number of 2^1000 digits."""
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], attribute("transB", 2, 3, 1))]
    nodes += [node("Mul", [f"n{i}", f"n{i}"], [f"n{i + 1}"]) for i in range(1000)]
    nodes += [node("Reshape", ["y", "n1000"], ["z"])]
    start = tensor("n0", 1, raw=b"", kind=7, more=field(7, b"\x0a"))
    content = dense(nodes=nodes, constants=[tensor("w", 3, 4), tensor("b", 3), start])
    assert len(read_onnx(content, Bounds()).calls) == 1002


def test_macs_of_every_kind_of_layer() -> None:
    same = attribute("auto_pad", 3, 4, "SAME_UPPER")
    strides = field(1, "strides") + field(8, 2) + field(8, 2) + field(20, 7)
    nodes = [
        node("Conv", ["x", "k"], ["c"], same, strides, name="conv"),
        node("ConvTranspose", ["c", "t"], ["d"], name="up"),
        node("GlobalAveragePool", ["d"], ["g"], name="pool"),
        node("Flatten", ["g"], ["f"], name="flat"),
        node("MatMul", ["f", "m"], ["y"], name="dense"),
    ]
    constants = [tensor("k", 4, 1, 3, 3), tensor("t", 4, 2, 2, 2), tensor("m", 2, 3)]
    content = dense(
        nodes=nodes, constants=constants, inputs=[value("x", "n", 1, 9, 9)], outputs=[value("y", "n", 3)]
    )
    outline = read_onnx(content, Bounds())
    shapes = {call.layer: outline.tensors[call.outputs[0]] for call in outline.calls}
    assert shapes == {
        "conv": (None, 4, 5, 5),
        "up": (None, 2, 6, 6),
        "pool": (None, 2, 1, 1),
        "flat": (None, 2),
        "dense": (None, 3),
    }
    found = cost(outline)
    assert found.macs == {"conv": 36 * 25, "up": 32 * 25, "pool": 0, "flat": 0, "dense": 6}


def test_mutated_files_are_refused_or_read(tmp_path: Path) -> None:
    chance, content, seen = np.random.default_rng(0), dense(), set()
    path = tmp_path / "m.onnx"
    for _ in range(600):
        mutant = bytearray(content)
        for place in chance.integers(2, len(mutant), 3):
            mutant[place] = int(chance.integers(0, 256))
        mutant[:10] = content[:10]
        path.write_bytes(bytes(mutant))
        code = outcome(path)
        assert code in CODES
        seen.add(code)
    assert {None, "bad_model"} <= seen


def test_every_prefix_is_refused(tmp_path: Path) -> None:
    content: Any = dense()
    for size in range(12, len(content)):
        with pytest.raises(CompressionError):
            read_onnx(content[:size], Bounds())
