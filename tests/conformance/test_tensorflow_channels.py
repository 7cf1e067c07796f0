from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from tasks.compression import CompressionError, compress
from tests.compression.networks import keras, save_model
from tests.conformance.channels import ChannelsConformance, Run, channels


class TestTensorFlowChannels(ChannelsConformance):
    def kernels(self, path: Path) -> Mapping[str, npt.NDArray[Any]]:
        model = keras().models.load_model(path, compile=False)
        return {name: model.get_layer(name).kernel.numpy() for name in ("conv", "mixed", "logits")}

    def test_nested_model_keeps_its_layers_paths(self, tmp_path: Path) -> None:
        layers = keras().layers
        inner = keras().Sequential([layers.InputLayer((6,)), layers.Dense(16, name="wide")], name="encoder")
        model = keras().Sequential([layers.InputLayer((6,)), inner, layers.Dense(3, name="head")])
        path = save_model(model, tmp_path / "nested.keras")
        spec = {"steps": [{"technique": "prune_channels", "layers": {"include": ["encoder/wide"]}}]}
        report = compress(path, spec, workdir=tmp_path / "work").report
        sizes = {layer.name: (layer.parameters_before, layer.parameters) for layer in report.layers}
        assert sizes == {"encoder/wide": (112, 56), "head": (51, 27)}
        assert report.steps[0].details["left_alone"] == {}

    def test_feature_that_a_cut_reshapes_cannot_be_taught(self, run: Run) -> None:
        with pytest.raises(CompressionError) as caught:
            run(
                channels(iterations=2),
                {"technique": "distill", "epochs": 1, "batch_size": 64, "features": ["logits", "mixed"]},
            )
        assert (caught.value.code, caught.value.layer) == ("layer_not_supported", "mixed")
        assert caught.value.pointer == "/steps/1/features"

    def test_macs_of_sizes_that_are_not_known_are_said_to_be_assumed(self, tmp_path: Path) -> None:
        layers = keras().layers
        inside = keras().Input((None, None, 3))
        halved = layers.Conv2D(4, 3, padding="same", name="before")(inside)[:, ::2, ::2]
        pooled = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3, name="after")(halved))
        body = keras().Model(inside, layers.Dense(4)(pooled), name="body")
        image = keras().Input((16, 16, 3))
        path = save_model(keras().Model(image, body(image)), tmp_path / "nested.keras")
        spec = {"steps": [{"technique": "prune_channels"}]}
        report = compress(path, spec, workdir=tmp_path / "work").report
        told = report.steps[0].details["macs_assumed"]
        assert list(told) == ["body/after"]
        assert "was built with" in told["body/after"]
        said = [warning for warning in report.warnings if warning.code == "macs_assumed"]
        assert [warning.layer for warning in said] == ["body/after"]
        assert "was built with" in said[0].message
