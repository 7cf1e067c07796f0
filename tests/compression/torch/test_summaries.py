"""What TensorBoard is shown of the training of a PyTorch network."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featherweight.spec import Prune
from tasks.compression import resuming
from tasks.compression.backends.tensorflow._framework import tf
from tasks.compression.backends.torch.finetune import finetune
from tasks.compression.backends.torch.network import Network
from tasks.compression.backends.torch.summaries import checksum
from tasks.compression.checkpoints import CheckpointFile
from tasks.compression.pending import Pending
from tasks.compression.stopping import Stopped
from tests.compression.breaking import StopAfter
from tests.compression.networks import digits
from tests.compression.torch import trainable
from tests.compression.torch.trainable import DigitNet, context_of, network_of, tensors

EPOCHS = 3
PER_EPOCH = 9
RISING = {
    "type": "polynomial_decay",
    "initial_sparsity": 0.2,
    "final_sparsity": 0.7,
    "begin_step": 0,
    "end_step": 20,
    "frequency": 3,
}


def trained(folder: Path, **options: object) -> Network:
    folder.mkdir(exist_ok=True)
    x, y = digits()
    torch.manual_seed(0)
    network = network_of(DigitNet(), (1, 28, 28))
    step = trainable.finetune(epochs=EPOCHS, batch_size=16)
    asked, context = context_of(network, step, folder, x=x[:190, None], y=y[:190])
    prune = Prune.model_validate({"technique": "prune", "schedule": RISING, "summaries": True})
    waiting = replace(network, pending=(Pending(prune, "/steps/0"),))
    return finetune(waiting, asked, replace(context, **options))  # type: ignore[arg-type]


def shown(network: Network, folder: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorFlow reads the events, checksums and all."""
    assert network.tensorboard is not None
    with tarfile.open(fileobj=io.BytesIO(network.tensorboard)) as archive:
        assert archive.getnames() == ["pruning/events.out.tfevents.0"]
        archive.extractall(folder, filter="data")
    found: dict[str, list[tuple[int, float]]] = {}
    for event in tf.compat.v1.train.summary_iterator(str(folder / "pruning/events.out.tfevents.0")):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_checksum_is_that_of_the_standard() -> None:
    assert checksum(b"123456789") == 0xE3069283


def test_sparsity_is_shown_to_rise_to_its_end(tmp_path: Path) -> None:
    network = trained(tmp_path / "work")
    found = shown(network, tmp_path)
    (logits,) = [name for name in found if "logits" in name and name.endswith("/sparsity")]
    steps, values = zip(*found[logits], strict=True)
    assert steps == tuple(epoch * PER_EPOCH for epoch in range(EPOCHS + 1))
    assert list(values) == sorted(values)
    assert values[-1] == pytest.approx(0.7, abs=1e-3)
    assert [step for step, _ in found["epoch_loss"]] == [0, 1, 2]
    assert np.mean(tensors(network)["logits.weight"] == 0) == pytest.approx(0.7, abs=1e-3)


def test_training_that_goes_on_shows_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(tmp_path / "undisturbed")
    monkeypatch.setattr(resuming, "AT_EPOCH_END_S", 0.0)
    monkeypatch.setattr(resuming, "COST_SHARE", 1e9)
    (tmp_path / "broken").mkdir()
    file = CheckpointFile(tmp_path / "broken" / "k.npz", tmp_path / "broken")
    with pytest.raises(Stopped):
        trained(tmp_path / "broken", checkpoints=file, stop=StopAfter(13))
    again = trained(tmp_path / "broken", checkpoints=file)
    assert shown(again, tmp_path / "broken") == shown(expected, tmp_path / "undisturbed")
    left, right = tensors(again), tensors(expected)
    assert all(left[name].tobytes() == right[name].tobytes() for name in left)
