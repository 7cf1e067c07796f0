"""Outlines of ``.tflite`` files against the schema's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.compression.backends.tensorflow.convert import to_tflite
from tasks.compression.backends.tensorflow.converted import convert_weights
from tasks.compression.errors import CompressionError
from tasks.compression.outline.reading import read_outline
from tasks.compression.tflite import operations, tensors
from tests.compression.outline.outcomes import outcome
from tests.compression.planning.networks import NETWORKS


@pytest.fixture(scope="module")
def content() -> bytes:
    program: bytes = to_tflite(NETWORKS["conv"]())
    return program


def written(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    return path


def test_operations_and_weights_are_those_of_the_file(content: bytes, tmp_path: Path) -> None:
    outline = read_outline(written(content, tmp_path))
    assert [layer.kind for layer in outline.layers] == [item.kind for item in operations(content)]
    assert [call.layer for call in outline.calls] == [item.outputs[0] for item in operations(content)]
    stored = {item.name: item.shape for item in tensors(content) if item.stored and item.dtype == "float32"}
    found = {weight.name: weight.shape for layer in outline.layers for weight in layer.weights}
    assert found == stored
    assert (outline.kind, outline.refused) == ("tflite", None)


def test_stored_types_are_read(tmp_path: Path) -> None:
    content: Any = convert_weights(NETWORKS["lstm"](), "float16")
    outline = read_outline(written(content, tmp_path))
    assert "float16" in {weight.dtype for layer in outline.layers for weight in layer.weights}
    assert outline.refused is not None
    assert outline.refused.code == "already_quantized"


def test_mutated_files_are_refused_or_read(content: bytes, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for _ in range(300):
        mutant = bytearray(content)
        for place in chance.integers(0, len(mutant), 5):
            mutant[place] = int(chance.integers(0, 256))
        mutant[4:8] = b"TFL3"
        assert outcome(written(bytes(mutant), tmp_path)) in (None, "bad_model", "unsupported_model")


def test_a_cut_off_file_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(CompressionError, match="damaged"):
        read_outline(written(content[: len(content) // 2], tmp_path))
