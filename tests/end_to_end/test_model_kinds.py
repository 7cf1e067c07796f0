"""What the service delivers, a SavedModel and a float ``.tflite``, sent back through the whole stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherweight import Client, InvalidRequest
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

PRUNE = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.3}}
QUANTIZE = {"technique": "quantize", "scheme": "full_int8", "calibration_samples": 50}


def test_delivered_graph_and_program_are_quantised(client: Client, digits: Digits, tmp_path: Path) -> None:
    spec = {"steps": [PRUNE], "outputs": ["saved_model", "tflite"]}
    job = client.compress(digits.model, spec=spec, dataset=digits.data)
    job.wait(timeout=300).download(tmp_path)
    for name, format_ in (("saved_model.tar.gz", "tar_gz"), ("model.tflite", "tflite")):
        plan = client.plan(tmp_path / name, spec={"steps": [QUANTIZE]}, dataset=digits.data)
        assert plan.feasible, plan.problems
        again = client.compress(tmp_path / name, spec={"steps": [QUANTIZE]}, dataset=digits.data)
        report = again.wait(timeout=300).report()
        assert client.models.get(again.job.model_id).format == format_
        assert report.outputs[0].scheme == "full_int8"
        assert report.outputs[0].accuracy is not None
        assert report.outputs[0].accuracy.value > 0.8
        assert report.verdict == "smaller"
    with pytest.raises(InvalidRequest) as refused:
        client.compress(tmp_path / "model.tflite", spec=spec, dataset=digits.data)
    assert refused.value.code == "unsupported_technique"
