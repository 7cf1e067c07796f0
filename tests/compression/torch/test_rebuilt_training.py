"""That networks rebuilt from exported programs are trained: every kind of layer learns what it had lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.compression.backends.torch.distill import distill
from tasks.compression.backends.torch.layers import copied
from tasks.compression.backends.torch.network import Network
from tests.compression.torch.models import MODELS
from tests.compression.torch.test_rebuild import rebuilt
from tests.compression.torch.trainable import context_of, tensors

SAMPLES = 48


@pytest.mark.parametrize("name", ["resnet", "vit", "lstm", "lstm_projected", "unet", "two_ends", "attention"])
def test_disturbed_network_is_taught_what_it_was(name: str, tmp_path: Path) -> None:
    signature = rebuilt(name).signature
    network = Network(copied(rebuilt(name).model), signature)
    torch.manual_seed(0)
    parts = [MODELS[name].inputs() for _ in range(SAMPLES // 2)]
    inputs = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
    names = signature.input_names
    arrays = (
        {"x": inputs[0]} if len(names) == 1 else {f"x/{n}": x for n, x in zip(names, inputs, strict=True)}
    )
    step = {
        "technique": "distill",
        "weight": 1.0,
        "loss": "mean_squared_error",
        "epochs": 6,
        "batch_size": 9,  # of 35: the last of an epoch is of 8
        "learning_rate": 3e-3,
        "freeze_batch_norm": True,
    }
    activations = ("linear",) * len(signature.output_names)
    asked, context = context_of(network, step, tmp_path, activations=activations, **arrays)
    with torch.no_grad():
        for value in network.model.parameters():
            value.mul_(0.7)
    before = tensors(network)
    trained = distill(network, asked, context)  # type: ignore[arg-type]
    losses = [epoch.metrics["val_loss"] for epoch in context.record.epochs]
    assert losses[-1] < losses[0]
    after = tensors(trained)
    assert all(np.isfinite(value).all() for value in after.values())
    moved = {key for key in before if not np.array_equal(before[key], after[key])}
    frozen = {key for key, module in trained.model.named_modules() if "BatchNorm" in type(module).__name__}
    assert {key for key in dict(trained.model.named_parameters()) if key not in moved} <= {
        f"{key}.{end}" for key in frozen for end in ("weight", "bias")
    }
