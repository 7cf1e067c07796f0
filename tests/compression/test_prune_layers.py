"""Pruning in the kinds of layers and models whose kernels lie differently, and in long trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tasks.compression import compress
from tests.compression.networks import keras, save_model

Array = npt.NDArray[Any]


def constant(sparsity: float) -> dict[str, Any]:
    return {"type": "constant_sparsity", "target_sparsity": sparsity}


def pruned(path: Path, work: Path, **step: Any) -> Any:
    """The model after pruning its selected layers to a half at once."""
    spec = {
        "steps": [{"technique": "prune", "schedule": constant(0.5), "on_unsupported": "error", **step}],
        "outputs": ["keras"],
    }
    outcome = compress(path, spec, workdir=work)
    return keras().models.load_model(outcome.artifacts[0], compile=False)


@pytest.fixture
def transposed(tmp_path: Path) -> Path:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((4, 4, 8)), layers.Conv2DTranspose(12, 3, name="up"), layers.GlobalMaxPool2D()]
    )
    return save_model(model, tmp_path / "m.keras")


def test_groups_of_a_transposed_convolution_run_along_its_input_channels(
    transposed: Path, tmp_path: Path
) -> None:
    kernel = pruned(transposed, tmp_path / "w", pattern={"type": "n_of_m"}).get_layer("up").kernel.numpy()
    assert kernel.shape == (3, 3, 12, 8)
    assert set(np.count_nonzero(kernel.reshape(-1, 4), axis=1)) == {2}


def test_blocks_of_a_transposed_convolution_run_along_its_output_channels(
    transposed: Path, tmp_path: Path
) -> None:
    pattern = {"type": "block", "block_size": [1, 4]}
    kernel = pruned(transposed, tmp_path / "w", pattern=pattern).get_layer("up").kernel.numpy()
    assert set(np.count_nonzero(kernel.swapaxes(2, 3).reshape(-1, 4), axis=1)) == {0, 4}


@pytest.mark.parametrize("step", [{"pattern": {"type": "n_of_m"}}, {"method": "lamp"}, {}])
def test_recurrent_and_embedding_kernels_are_pruned(step: dict[str, Any], tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential(
        [layers.InputLayer((6,)), layers.Embedding(20, 8, name="words"), layers.LSTM(8, name="lstm")]
    )
    path = save_model(model, tmp_path / "m.keras")
    if "pattern" in step:
        step = {**step, "layers": {"include": ["lstm"]}}
    model = pruned(path, tmp_path / "w", **step)
    weights = [weight.numpy() for weight in model.get_layer("lstm").cell.weights[:2]]
    if "layers" not in step:
        weights.append(model.get_layer("words").embeddings.numpy())
    assert sum(map(np.count_nonzero, weights)) == sum(weight.size for weight in weights) // 2
    if "pattern" in step:
        for weight in weights:
            assert set(np.count_nonzero(weight.T.reshape(-1, 4), axis=1)) == {2}


def test_global_method_in_a_nested_model_and_a_training_of_grouped_steps(
    digit_file: Path, tmp_path: Path
) -> None:
    layers = keras().layers
    inner = keras().Sequential([layers.InputLayer((16,)), layers.Dense(16, name="deep")], name="inner")
    image = layers.Input((28, 28))
    hidden = layers.Dense(16, activation="relu", name="first")(layers.Flatten()(image))
    merged = layers.Add()([inner(hidden), hidden])
    model = keras().Model(image, layers.Dense(10, activation="softmax", name="last")(merged))
    path = save_model(model, tmp_path / "m.keras")
    points = [{"fraction": 0.2, "sparsity": 0.3}, {"fraction": 0.5, "sparsity": 0.6}]
    schedule = {"type": "custom", "points": points, "interpolation": "step"}
    prune = {"technique": "prune", "method": "lamp", "schedule": schedule}
    train = {"technique": "finetune", "epochs": 2, "batch_size": 6}
    report = compress(path, {"steps": [prune, train]}, dataset=digit_file, workdir=tmp_path / "w").report
    assert report.steps[1].details["steps_per_execution"] > 1
    assert [epoch.sparsity for epoch in report.steps[1].epochs] == pytest.approx([0.6, 0.6], abs=1e-3)
    sizes = {"first": 784 * 16, "inner/deep": 256, "last": 160}
    zeros = {layer.name: layer.sparsity_after * sizes[layer.name] for layer in report.layers}
    assert sum(zeros.values()) == pytest.approx(0.6 * sum(sizes.values()), abs=1)


def test_weights_that_share_values_are_pruned_exactly(tmp_path: Path) -> None:
    layers = keras().layers
    model = keras().Sequential([layers.InputLayer((10,)), layers.Dense(10, name="dense")])
    model.get_layer("dense").kernel.assign(np.where(np.arange(100).reshape(10, 10) % 2, 0.5, -0.5))
    path = save_model(model, tmp_path / "m.keras")
    kernel = pruned(path, tmp_path / "w", schedule=constant(0.7)).get_layer("dense").kernel.numpy()
    assert np.count_nonzero(kernel) == 30
