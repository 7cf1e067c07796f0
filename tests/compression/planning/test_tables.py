"""The tables that plans read by name, against TensorFlow, TFMOT and the schema they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from featherweight.spec import (
    CompressionSpec,
    ConstantSparsity,
    CustomSchedule,
    PolynomialDecay,
    SchedulePoint,
)
from tasks.compression import catalogue
from tasks.compression.backends.tensorflow._framework import keras
from tasks.compression.backends.tensorflow.load import _known_classes
from tasks.compression.backends.tensorflow.prunability import KERNELS, MATRICES, TRANSPOSED_KINDS
from tasks.compression.backends.tensorflow.qat.scheme import Scheme
from tasks.compression.backends.tensorflow.qat.support import LEARN
from tasks.compression.backends.tensorflow.refusals import KNOWN_CLASSES
from tasks.compression.backends.tensorflow.rules import TRANSPOSED
from tasks.compression.backends.tensorflow.schedule import step_schedule
from tasks.compression.catalogue import ROWS, resolve
from tasks.compression.mask_updates import sparsity_after
from tasks.compression.outline.facts import Layer, Outline, Weight
from tasks.compression.outline.tflite import KINDS, TYPES
from tasks.compression.planning import plan
from tasks.compression.planning.sizes import gzip_estimate
from tests.compression.test_schedules import last_sparsity


def test_known_classes_are_keras_own() -> None:
    assert _known_classes() == KNOWN_CLASSES


def test_prunable_kernels_are_those_of_tfmots_registry() -> None:
    from tensorflow_model_optimization.python.core.sparsity.keras.prune_registry import PruneRegistry

    registered = {
        layer.__name__: tuple(names) for layer, names in PruneRegistry._LAYERS_WEIGHTS_MAP.items() if names
    }
    attention = registered.pop("MultiHeadAttention")
    assert [name.split(".")[1] for name in attention] == ["kernel"] * 4
    recurrent = {layer.__name__ for layer in PruneRegistry._RNN_LAYERS} - {"RNN"}
    assert {kind: names for kind, names in KERNELS.items() if kind not in recurrent} == registered
    assert recurrent <= set(KERNELS)
    for names in PruneRegistry._RNN_CELLS_WEIGHTS_MAP.values():
        assert tuple(names) == KERNELS["LSTM"]


def test_layers_that_learn_to_be_rounded_are_those_of_the_scheme() -> None:
    registry = Scheme().get_quantize_registry()
    known = {layer.__name__ for layer in registry._layer_quantize_map}
    assert known | {"BatchNormalization", "SeparableConv2D"} == LEARN
    cells = [keras.layers.LSTM(2), keras.layers.GRU(2), keras.layers.SimpleRNN(2)]
    assert not any(registry.supports(layer) for layer in cells)


def test_transposed_kinds_are_the_handlers() -> None:
    assert {layer.__name__ for layer in TRANSPOSED} == TRANSPOSED_KINDS
    assert set(KERNELS) >= MATRICES >= TRANSPOSED_KINDS


def test_every_kernel_is_an_attribute_of_its_layer() -> None:
    for kind in ("Dense", "Embedding", "SeparableConv2D", "LocallyConnected2D"):
        arguments: dict[str, Any] = {
            "Dense": {"units": 2},
            "Embedding": {"input_dim": 3, "output_dim": 2},
        }.get(kind, {"filters": 2, "kernel_size": 2})
        layer = getattr(keras.layers, kind)(**arguments)
        layer.build((None, 4) if kind in ("Dense", "Embedding") else (None, 4, 4, 3))
        for name in KERNELS[kind]:
            assert len(getattr(layer, name).shape) > 1


def test_names_of_operations_and_types_are_the_schemas() -> None:
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    assert {number: kinds[number] for number in KINDS} == KINDS
    assert {number: types[number].lower() for number in TYPES} == TYPES


def points(*pairs: tuple[int, float], **options: Any) -> CustomSchedule:
    placed = tuple(SchedulePoint(step=step, sparsity=sparsity) for step, sparsity in pairs)
    return CustomSchedule(type="custom", points=placed, **options)


@pytest.mark.parametrize("steps", [1, 7, 20, 33, 60])
@pytest.mark.parametrize(
    "schedule",
    [
        PolynomialDecay(begin_step=0, end_step=50, frequency=7),
        PolynomialDecay(begin_step=10, end_step=40, frequency=100, power=1.0, final_sparsity=0.9),
        ConstantSparsity(target_sparsity=0.4, begin_step=25, end_step=55, frequency=5),
        points((5, 0.2), (30, 0.8), (45, 0.9), frequency=10),
        points((5, 0.2), (30, 0.8), frequency=3, interpolation="step"),
    ],
    ids=str,
)
def test_schedules_end_where_tfmots_do(schedule: Any, steps: int) -> None:
    theirs = step_schedule(schedule, 0.0)
    end, reached = sparsity_after(schedule, steps)
    assert end == theirs.end_step
    if end > steps:
        assert reached == pytest.approx(last_sparsity(theirs, steps), abs=1e-5)


@pytest.mark.parametrize("row", [row for row in ROWS if row.plan], ids=lambda row: row.technique)
def test_planners_of_the_catalogue_resolve(row: Any) -> None:
    assert callable(resolve(row.plan))
    assert row.plan_check is None or callable(resolve(row.plan_check))


def test_technique_without_a_planner_is_said_and_what_follows_is_an_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = replace(catalogue.row("prune", "tensorflow"), plan=None, plan_check=None)
    monkeypatch.setitem(catalogue._BY_KEY, ("prune", "tensorflow"), bare)
    weights = (Weight(name="kernel", shape=(4, 2), dtype="float32"),)
    layer = Layer(path="d", name="d", kind="Dense", config={"units": 2}, weights=weights)
    outline = Outline(format="keras_zip", framework="tensorflow", layers=(layer,), traced=False)
    told = plan(outline, CompressionSpec.model_validate({"steps": [{"technique": "prune"}]}))
    assert [warning.message for warning in told.warnings] == [
        "What prune does is only looked at when the job runs."
    ]
    assert told.steps[0].estimated == ["parameters", "macs"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("distinct", [None, 17])
def test_gzip_estimate_is_near_gzip(share: float, dtype: str, distinct: int | None) -> None:
    import zlib

    values = np.random.default_rng(0).normal(0, 0.05, 20_000).astype(np.float32)
    if distinct is not None:
        values = np.linspace(-0.2, 0.2, distinct - 1, dtype=np.float32)[
            np.random.default_rng(1).integers(0, distinct - 1, values.size)
        ]
    zero = np.random.default_rng(2).random(values.size) < share
    values = np.where(zero, 0, values)
    if dtype == "int8":
        stored = np.round(values / np.abs(values).max() * 127).astype(np.int8)
    else:
        stored = values.astype(dtype)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    size = len(packer.compress(stored.tobytes()) + packer.flush())
    assert gzip_estimate(values.size, share, distinct, dtype) == pytest.approx(size, rel=0.3)
