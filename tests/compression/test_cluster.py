"""Clustering where conformance does not look: k-means itself, layers of several kernels, nested and shared
ones, jobs that are tried again, and what cannot be done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from featherweight.report import Report
from tasks.compression import CompressionError, compress
from tests.compression.networks import keras, save_model

Array = npt.NDArray[Any]
TRAIN = {"technique": "finetune", "epochs": 1, "batch_size": 64}
CLUSTER = {"technique": "cluster", "clusters": 5}


def codes(report: Report) -> set[str]:
    return {warning.code for warning in report.warnings}


def kernels_of(path: Path) -> dict[str, Array]:
    model = keras().models.load_model(path, compile=False)
    return {weight.name: weight.numpy() for weight in model.trainable_weights if len(weight.shape) > 1}


def spread(values: Array, centres: Array) -> float:
    return float(np.square(values[:, None] - centres[None]).min(axis=1).sum())


@pytest.fixture(scope="module")
def laplacian() -> Array:
    return np.random.default_rng(0).laplace(size=3000).astype(np.float32)


class TestCodebook:
    @pytest.mark.parametrize("initialization", ["linear", "density", "kmeans_plus_plus"])
    def test_no_centre_can_be_moved_to_its_gain(self, laplacian: Array, initialization: Any) -> None:
        from tasks.compression.codebook import codebook, nearest

        centres = codebook(laplacian, 8, initialization, [0])
        assert (np.diff(centres) > 0).all()
        shown = nearest(laplacian, centres)
        for centre in centres:
            assert laplacian[shown == centre].mean() == pytest.approx(centre, abs=2e-3)
        assert np.square(laplacian - shown).sum() == pytest.approx(spread(laplacian, centres), rel=1e-4)
        quantiles = np.quantile(laplacian, (np.arange(8) + 0.5) / 8)
        assert spread(laplacian, centres) < 0.8 * spread(laplacian, quantiles)

    def test_initialisations_start_where_they_are_said_to(self, laplacian: Array) -> None:
        from tasks.compression import codebook as module

        found = {
            name: module._start(
                np.unique(laplacian).astype(np.float64), np.ones(len(np.unique(laplacian)), int), 5, name, [3]
            )
            for name in ("linear", "density", "kmeans_plus_plus")
        }
        assert found["linear"] == pytest.approx(np.linspace(laplacian.min(), laplacian.max(), 5))
        assert found["density"] == pytest.approx(np.quantile(laplacian, [0.1, 0.3, 0.5, 0.7, 0.9]), abs=0.02)
        assert np.isin(found["kmeans_plus_plus"].astype(np.float32), laplacian).all()

    def test_values_no_more_than_the_clusters_are_kept(self) -> None:
        from tasks.compression.codebook import codebook

        assert codebook(np.array([3, 1, 3, 2], np.float32), 5, "density", [0]).tolist() == [1, 2, 3, 3, 3]

    def test_same_seed_makes_the_same_codebook(self, laplacian: Array) -> None:
        from tasks.compression.codebook import codebook

        first, again, other = (codebook(laplacian, 20, "kmeans_plus_plus", [seed]) for seed in (1, 1, 2))
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.tolist()


@pytest.fixture(scope="module")
def nested_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of separable, transposed, recurrent and depthwise layers, a nested model, and a layer used twice."""
    layers = keras().layers
    keras().utils.set_random_seed(0)
    inner = keras().Sequential(
        [layers.InputLayer((7, 7, 6)), layers.Conv2D(6, 3, padding="same", name="inside")]
    )
    inputs = layers.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(inputs)
    x = layers.SeparableConv2D(6, 3, strides=4, padding="same", activation="relu", name="separable")(x)
    x = keras().Model(inner.inputs, inner.outputs, name="nest")(x)
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2DTranspose(6, 3, padding="same", name="transposed")(x)
    twice = layers.Conv2D(6, 1, name="twice")
    x = layers.Reshape((7, 42))(twice(twice(x)))
    x = layers.LSTM(12, name="recurrent")(x)
    model = keras().Model(inputs, layers.Dense(10, name="logits")(x))
    return save_model(model, tmp_path_factory.mktemp("nested") / "nested.keras")


@pytest.mark.ends
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("carried_out", ["at_once", "finetune", "distill"])
def test_every_kernel_of_every_kind_of_layer_shares(
    nested_file: Path, digit_file: Path, tmp_path: Path, carried_out: str, per_channel: bool
) -> None:
    prune = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}}
    prune["layers"] = {"include": ["nest/*", "recurrent", "twice"]}
    steps = [prune, {**CLUSTER, "per_channel": per_channel}]
    if carried_out != "at_once":
        steps.append({**TRAIN, "technique": carried_out, "batch_size": 256})
    report = compress(
        nested_file, {"steps": steps, "outputs": ["keras"]}, dataset=digit_file, workdir=tmp_path
    ).report
    kernels = kernels_of(tmp_path / "out" / "model.keras")
    left = {name for name, kernel in kernels.items() if len(np.unique(kernel)) > 40}
    if not per_channel:
        assert left == {"separable/depthwise_kernel:0", "depthwise/depthwise_kernel:0"} - {
            name for name, kernel in kernels.items() if kernel.size <= 40
        }
    for name, kernel in kernels.items():
        if "depthwise" in name:
            continue
        channels = [kernel]
        if per_channel:
            channels = list(np.moveaxis(kernel, -2 if "transposed" in name else -1, 0))
        pruned = "inside" in name or "lstm" in name or "twice" in name
        counts = [len(np.unique(channel[channel != 0] if pruned else channel)) for channel in channels]
        assert max(counts) <= 5, name
        if pruned:
            assert np.count_nonzero(kernel) == pytest.approx(kernel.size / 2, abs=1)
    skipped = {item.layer for item in report.warnings if item.code == "layer_not_shared"}
    assert skipped == {"depthwise"}


def test_sharing_begins_where_it_is_asked_to(cnn_file: Path, digit_file: Path, tmp_path: Path) -> None:
    """Early stopping and the best epoch look at no epoch before, so a late beginning leaves one to choose."""
    training = {**TRAIN, "epochs": 3, "keep_best": True}
    report = compress(
        cnn_file,
        {"steps": [{**CLUSTER, "begin": 0.9}, training], "outputs": ["keras"]},
        dataset=digit_file,
        workdir=tmp_path,
    ).report
    assert report.steps[1].details["best_epoch"] == 3
    assert "best_among_few" in codes(report)
    assert all(
        len(np.unique(kernel)) <= 5
        for name, kernel in kernels_of(tmp_path / "out" / "model.keras").items()
        if "depthwise" not in name
    )


def test_best_epoch_is_one_of_shared_weights(cnn_file: Path, digit_file: Path, tmp_path: Path) -> None:
    training = {**TRAIN, "epochs": 4, "keep_best": True, "learning_rate": 0.05}
    report = compress(
        cnn_file, {"steps": [CLUSTER, training], "outputs": ["keras"]}, dataset=digit_file, workdir=tmp_path
    ).report
    best = report.steps[1].details["best_epoch"]
    losses = [epoch.metrics["val_loss"] for epoch in report.steps[1].epochs]
    assert losses[best - 1] == min(losses)
    assert len(np.unique(kernels_of(tmp_path / "out" / "model.keras")["logits/kernel:0"])) <= 5


def test_job_tried_again_goes_on_from_each_step_to_the_same_files(
    cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    steps = [CLUSTER, TRAIN, {"technique": "prune"}, TRAIN]
    spec = {"steps": steps, "outputs": ["keras"]}
    whole = compress(cnn_file, spec, dataset=digit_file, workdir=tmp_path / "whole").report
    for count in range(1, 4):
        work = tmp_path / str(count)
        shutil.copytree(tmp_path / "whole", work)
        for step in whole.steps[count:]:
            shutil.rmtree(work / "steps" / step.key)
        again = compress(cnn_file, spec, dataset=digit_file, workdir=work).report
        assert [step.reused for step in again.steps] == [True] * count + [False] * (4 - count)
        assert again.outputs[0].sha256 == whole.outputs[0].sha256


def test_training_that_diverges_is_said_to(cnn_file: Path, digit_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        compress(
            cnn_file,
            {"steps": [CLUSTER, {**TRAIN, "optimizer": "sgd", "learning_rate": 10.0, "epochs": 30}]},
            dataset=digit_file,
            workdir=tmp_path,
        )
    assert caught.value.code == "training_diverged"


def test_weights_that_are_no_numbers_do_not_hide_behind_a_codebook() -> None:
    from tasks.compression.backends.tensorflow.shared_kernel import SharedKernel
    from tasks.compression.pending import Sharing
    from tasks.compression.sharing_plan import Terms

    layer = keras().layers.Dense(4)
    layer.build((None, 6))
    terms = Terms(Sharing(3, per_channel=False), "linear", 0, [0])
    kernel = SharedKernel(layer.kernel, layer, masked=False, terms=terms)
    kernel.codebook.start()
    kernel.show(shared=True)
    assert len(np.unique(layer.kernel)) == 3
    layer.kernel.assign(np.full((6, 4), np.nan))
    kernel.absorb()
    kernel.show(shared=True)
    assert np.isnan(layer.kernel.numpy()).all()


def test_update_of_the_optimiser_goes_to_the_latent_weights() -> None:
    from tasks.compression.backends.tensorflow.shared_kernel import SharedKernel
    from tasks.compression.pending import Sharing
    from tasks.compression.sharing_plan import Terms

    layer = keras().layers.Dense(50)
    layer.build((None, 40))
    before = layer.kernel.numpy()
    terms = Terms(Sharing(4, per_channel=False), "density", 0, [0])
    kernel = SharedKernel(layer.kernel, layer, masked=True, terms=terms)
    stays = np.random.default_rng(0).random(before.shape) < 0.5
    kernel.hide(stays)
    kernel.codebook.start()
    kernel.show(shared=True)
    shown = layer.kernel.numpy()
    assert len(np.unique(shown)) == 5
    assert ((shown != 0) == stays).all()
    layer.kernel.assign_add(np.full(before.shape, 0.25, np.float32))
    kernel.absorb()
    assert kernel.latent.numpy() == pytest.approx(before + 0.25 * stays, abs=1e-6)
    for _ in range(50):
        kernel.codebook.move()
    kernel.show(shared=True)
    moved, latent = layer.kernel.numpy(), kernel.latent.numpy()
    assert set(np.unique(moved[stays])).isdisjoint(np.unique(shown))
    for value in np.unique(moved[stays]):
        assert latent[moved == value].mean() == pytest.approx(value, abs=1e-3)


def test_layer_that_cannot_share_is_refused_by_name(cnn_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressionError) as caught:
        compress(cnn_file, {"steps": [{**CLUSTER, "on_unsupported": "error"}]}, workdir=tmp_path)
    assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "depthwise")
    assert caught.value.pointer == "/steps/0/layers"


@pytest.mark.parametrize("trained", [False, True])
def test_step_that_can_share_nothing_is_reported(
    cnn_file: Path, digit_file: Path, tmp_path: Path, trained: bool
) -> None:
    step = {**CLUSTER, "layers": {"include": ["depthwise", "norm"]}}
    steps = [step, TRAIN] if trained else [step]
    report = compress(cnn_file, {"steps": steps}, dataset=digit_file, workdir=tmp_path).report
    assert {"layer_not_shared", "nothing_changed"} <= codes(report)
    skipped = {layer.name: layer.skipped for layer in report.layers if layer.skipped}
    assert list(skipped) == ["depthwise"]


def test_of_two_steps_the_later_counts(cnn_file: Path, tmp_path: Path) -> None:
    later = {**CLUSTER, "clusters": 3, "layers": {"include": ["logits"]}}
    compress(cnn_file, {"steps": [CLUSTER, later], "outputs": ["keras"]}, workdir=tmp_path)
    kernels = kernels_of(tmp_path / "out" / "model.keras")
    assert len(np.unique(kernels["logits/kernel:0"])) == 3
    assert len(np.unique(kernels["conv/kernel:0"])) == 5


def test_reports_without_a_cluster_step_count_no_values(
    cnn_file: Path, tmp_path: Path, save_data: Callable[..., Path]
) -> None:
    report = compress(cnn_file, {"steps": [{"technique": "prune"}]}, workdir=tmp_path).report
    assert {layer.distinct_values_after for layer in report.layers} == {None}
