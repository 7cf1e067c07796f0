from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tasks.compression import compress
from tasks.compression.backends.tensorflow._framework import tf

PRUNE = {"technique": "prune", "summaries": True, "layers": {"include": ["logits"]}}
TRAIN = {"technique": "finetune", "epochs": 2, "batch_size": 64}


def scalars(folder: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.tag.endswith(("/sparsity", "loss")):
                    found.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
    return found


@pytest.fixture(scope="module")
def done(cnn_file: Path, digit_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    work = tmp_path_factory.mktemp("work")
    spec = {"steps": [PRUNE, TRAIN, {"technique": "quantize", "scheme": "float16"}]}
    return compress(cnn_file, spec, dataset=digit_file, workdir=work), work, spec


def test_summaries_are_delivered_and_show_sparsity_rise_to_its_end(done: Any, tmp_path: Path) -> None:
    outcome, work, _ = done
    (archive,) = [path for path in outcome.artifacts if path.name == "tensorboard.tar.gz"]
    with tarfile.open(archive) as content:
        content.extractall(tmp_path, filter="data")
    shown = scalars(tmp_path)
    (name,) = [name for name in shown if name.endswith("/sparsity")]
    assert "logits" in name
    assert len(shown[name]) == 3
    assert shown[name][0] == 0
    assert shown[name][1:] == sorted(shown[name][1:])
    assert shown[name][-1] == pytest.approx(0.8, abs=1e-3)
    assert list((work / "tmp").iterdir()) == []


def test_job_tried_again_delivers_them_too(
    done: Any, cnn_file: Path, digit_file: Path, tmp_path: Path
) -> None:
    outcome, work, spec = done
    shutil.copytree(work, tmp_path / "work")
    again = compress(cnn_file, spec, dataset=digit_file, workdir=tmp_path / "work")
    assert all(step.reused for step in again.report.steps)
    assert {path.name for path in again.artifacts} == {path.name for path in outcome.artifacts}


def test_summaries_without_training_are_warned_of(cnn_file: Path, tmp_path: Path) -> None:
    outcome = compress(cnn_file, {"steps": [PRUNE]}, workdir=tmp_path)
    assert "summaries_need_training" in {warning.code for warning in outcome.report.warnings}
    assert not any(path.suffix == ".gz" for path in outcome.artifacts)
