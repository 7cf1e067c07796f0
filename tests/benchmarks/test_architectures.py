"""The table of architectures: what is written of a network that was measured, refused, or neither."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.architectures import BEGIN, DOCUMENT, END, SIDES, markdown, measure

FOUND = {
    "parameters": 1_234_567,
    "bridge": 1.5e-7,
    "back": 0.0,
    "zeros": 0.4931,
    "gzip_bytes": 2_176_191,
    "share": 0.1856,
    "seconds": 48.1,
    "cpu_seconds": 24.4,
    "measured": "2026-01-02 on 2 cores",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_network_has_a_row_that_says_what_came_of_it() -> None:
    refused = {"refused": "bad_model: no counterpart", "measured": FOUND["measured"]}
    text = markdown({"MobileNet": FOUND, "VGG16": refused})
    lines = text.splitlines()
    rows = {cells(line)[0]: cells(line)[1:] for line in lines[-len(SIDES) :]}
    assert list(rows) == list(SIDES)
    expected = ["64", "1,234,567", "1.5e-07", "0.0e+00", "49.3%", "2,176,191 B", "0.186", "48", "24"]
    assert rows["MobileNet"] == expected
    assert rows["VGG16"][1] == "bad_model: no counterpart"
    assert rows["Xception"][1] == "not measured"
    assert text.count("Measured 2026-01-02 on 2 cores.") == 1
    assert {line.count("|") for line in lines[2:]} == {len(expected) + 2}


def test_table_has_its_place_in_the_document() -> None:
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    assert before
    assert begin
    assert END in rest


@pytest.mark.filterwarnings("ignore")
def test_a_network_is_measured_through_a_whole_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one in place of those of keras.applications."""
    import tasks.compression.backends.tensorflow._framework  # noqa: F401 - sets the environment

    import keras  # isort: skip - after what sets TensorFlow's environment

    def small(weights: None, input_shape: tuple[int, ...], classes: int) -> object:
        layers = keras.layers
        stack = [layers.Input(input_shape), layers.Conv2D(8, 3, strides=8), layers.BatchNormalization()]
        stack += [layers.ReLU(), layers.Flatten(), layers.Dense(classes, activation="softmax")]
        return keras.Sequential(stack)

    monkeypatch.setattr(keras.applications, "MobileNet", small)
    found = measure("MobileNet")
    assert found["parameters"] == 3 * 9 * 8 + 8 + 4 * 8 + 64 * 8 * 10 + 10
    assert found["bridge"] < 1e-5
    assert found["back"] < 1e-5
    kernels = 3 * 9 * 8 + 64 * 8 * 10
    assert found["zeros"] == pytest.approx(np.floor(kernels / 2) / found["parameters"], abs=0.02)
    assert 0 < found["share"] < 0.6
    assert found["seconds"] > 0
