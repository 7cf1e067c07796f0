"""Whatever jobs are made of works in the sandbox: training, converters, quantisers, readers, figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featherweight import Client
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

TRAIN = {"epochs": 1, "batch_size": 128}
JOBS: dict[str, dict[str, Any]] = {
    "every output, by its own converter": {
        "steps": [{"technique": "prune"}, {"technique": "quantize", "scheme": "dynamic_int8"}],
        "outputs": ["tflite", "keras", "saved_model", "c_array", "onnx"],
    },
    "training with summaries": {
        "steps": [
            {"technique": "prune", "summaries": True},
            {"technique": "quantize_aware"},
            {"technique": "finetune", **TRAIN},
        ],
    },
    "channels, ranks and values": {
        "steps": [
            {"technique": "prune_channels", "target": {"type": "ratio", "remove": 0.25}},
            {"technique": "cluster", "clusters": 8},
            {"technique": "distill", **TRAIN},
        ],
    },
    "four bits by gptq": {
        "steps": [{"technique": "quantize", "scheme": "dynamic", "weight_bits": 4, "algorithm": "gptq"}],
    },
}


@pytest.fixture(scope="module")
def samples(digits: Digits) -> tuple[Any, Any]:
    with np.load(digits.data) as arrays:
        return arrays["x_train"][:300], arrays["y_train"][:300]


@pytest.fixture(scope="module")
def table(samples: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    x, y = samples
    path = tmp_path_factory.mktemp("table") / "digits.parquet"
    rows = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x[0].size)
    pq.write_table(pa.table({"pixels": rows, "label": y}), path)
    return path


@pytest.mark.parametrize("name", JOBS)
def test_job_succeeds_in_the_sandbox_and_says_which(
    client: Client, digits: Digits, table: Path, name: str, tmp_path: Path
) -> None:
    spec = {**JOBS[name], "data": {"target": "label"}}
    job = client.compress(digits.model, spec=spec, dataset=table).wait(timeout=300)
    report = job.report()
    assert report.host.sandbox is not None
    assert report.host.sandbox.startswith("landlock ")
    job.download(tmp_path)
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "tensorboard.tar.gz").exists() == ("summaries" in name)
