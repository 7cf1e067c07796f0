"""SavedModels as Keras wrote them before TensorFlow 2.5, with its configuration among their objects."""

from __future__ import annotations

import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from tasks.compression import compress
from tasks.compression.backends.tensorflow._framework import SavedModel
from tests.compression.networks import digits, keras


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The archive of a SavedModel whose keras_metadata.pb has moved to where it was then."""
    layers = keras().layers
    keras().utils.set_random_seed(0)
    model = keras().Sequential(
        [
            layers.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="classes"),
        ]
    )
    folder = tmp_path / "older"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(folder, save_format="tf")
    _move_metadata(folder)
    path = tmp_path / "older.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="older")
    return path


def _move_metadata(folder: Path) -> None:
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    metadata = SavedMetadata.FromString((folder / "keras_metadata.pb").read_bytes())
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    objects = saved.meta_graphs[0].object_graph_def.nodes
    for node in metadata.nodes:
        assert objects[node.node_id].user_object.identifier == node.identifier
        objects[node.node_id].user_object.metadata = node.metadata
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    (folder / "keras_metadata.pb").unlink()


def test_a_keras_network_of_that_time_can_be_trained(older: Path, tmp_path: Path) -> None:
    x, y = digits()
    data = tmp_path / "data.npz"
    np.savez(data, x=x[:400], y=y[:400])
    steps = [{"technique": "prune"}, {"technique": "finetune", "epochs": 1}]
    report = compress(older, {"steps": steps}, dataset=data, workdir=tmp_path / "job").report
    codes = {warning.code for warning in report.warnings}
    assert "rebuilt_from_saved_model" in codes
    assert "taken_as_graph" not in codes
    after = {layer.name: layer.sparsity_after for layer in report.layers}
    assert after == {name: pytest.approx(0.8, abs=0.01) for name in ("hidden", "classes")}
