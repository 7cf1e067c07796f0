"""Bad models, data and specs through the whole service: each ends in its own code, and the worker goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.local.stack import LocalStack
from featherweight import APIError, Client, InvalidRequest, InvalidSpec, JobFailed
from featherweight.problem import CODES, Problem
from tests.conftest import Digits

pytestmark = [pytest.mark.slow, pytest.mark.stack]

Arrays = dict[str, "np.ndarray[Any, Any]"]
Change = Callable[[Arrays], Arrays]

TRAIN = {"steps": [{"technique": "finetune", "epochs": 1}]}
QUANTIZE = {"steps": [{"technique": "quantize", "scheme": "dynamic_int8"}]}


@pytest.fixture(scope="module")
def small(digits: Digits) -> Arrays:
    with np.load(digits.data) as arrays:
        return {"x": arrays["x_train"][:200], "y": arrays["y_train"][:200]}


def first_nan(arrays: Arrays) -> Arrays:
    x = arrays["x"].copy()
    x[17, 3, 3] = np.nan
    return {**arrays, "x": x}


def changed_label(arrays: Arrays) -> Arrays:
    y = arrays["y"].copy()
    y[0] = 10
    return {**arrays, "y": y}


DATA: dict[str, tuple[Change, str]] = {
    "NaN in a sample": (first_nan, "not_finite"),
    "images of another size": (lambda arrays: {**arrays, "x": arrays["x"][:, :14]}, "shape_mismatch"),
    "fewer labels than samples": (lambda arrays: {**arrays, "y": arrays["y"][:-1]}, "shape_mismatch"),
    "a label beyond the classes": (changed_label, "label_out_of_range"),
    "a negative label": (lambda arrays: {**arrays, "y": arrays["y"] - 20}, "label_out_of_range"),
    "ten samples": (lambda arrays: {name: array[:10] for name, array in arrays.items()}, "too_few_samples"),
    "no labels": (lambda arrays: {"x": arrays["x"]}, "array_missing"),
}


REFUSED_AT_ONCE: dict[str, tuple[Change, str]] = {
    "pickled objects": (lambda arrays: {**arrays, "y": arrays["y"].astype(object)}, "pickled_array"),
    "complex numbers": (
        lambda arrays: {**arrays, "x": arrays["x"].astype(np.complex64)},
        "dtype_not_allowed",
    ),
}


@pytest.mark.parametrize("what", DATA)
def test_data_that_does_not_fit_fails_the_job(
    client: Client, digits: Digits, small: Arrays, tmp_path: Path, what: str
) -> None:
    change, code = DATA[what]
    np.savez(tmp_path / "data.npz", **change(small))  # type: ignore[arg-type]
    problem = failure(client, digits.model, TRAIN, tmp_path / "data.npz")
    assert problem.code == code, problem
    assert problem.status == CODES[code].status < 500
    assert problem.stage


@pytest.mark.parametrize("what", REFUSED_AT_ONCE)
def test_data_that_nothing_can_be_done_with_is_not_taken(
    client: Client, digits: Digits, small: Arrays, tmp_path: Path, what: str
) -> None:
    change, code = REFUSED_AT_ONCE[what]
    np.savez(tmp_path / "data.npz", **change(small))  # type: ignore[arg-type]
    assert refusal(client, digits.model, TRAIN, tmp_path / "data.npz") == code


def test_a_data_set_cut_short_is_not_taken(client: Client, digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(digits.data.read_bytes()[:100_000])
    assert refusal(client, digits.model, TRAIN, tmp_path / "data.npz") == "bad_archive"


def test_a_model_cut_short_is_not_taken(client: Client, digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(digits.model.read_bytes()[:60_000])
    assert refusal(client, tmp_path / "model.keras", QUANTIZE) == "bad_archive"


def test_a_model_with_flipped_bytes_is_not_taken(client: Client, digits: Digits, tmp_path: Path) -> None:
    content = bytearray(digits.model.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    (tmp_path / "model.keras").write_bytes(content)
    assert refusal(client, tmp_path / "model.keras", QUANTIZE) in {"bad_archive", "bad_h5", "bad_model"}


def test_an_archive_that_is_no_model_is_refused(client: Client, digits: Digits, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(digits.data.read_bytes())
    with pytest.raises((APIError, JobFailed)) as refused:
        client.compress(tmp_path / "model.keras", QUANTIZE).wait(timeout=60)
    assert code_of(refused.value) in {"unsupported_model", "unknown_file_type"}


def test_a_file_of_another_kind_is_refused_at_once(client: Client, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_text("not a model at all\n" * 100)
    with pytest.raises(APIError) as refused:
        client.compress(tmp_path / "model.keras", QUANTIZE)
    assert refused.value.code == "unknown_file_type"


def test_a_keras_3_layer_without_counterpart_is_refused_with_a_way_out(
    client: Client, tmp_path: Path
) -> None:
    layers = "[keras.layers.Input((4,)), keras.layers.RMSNormalization(name='rms')]"
    code = f"import sys, keras; keras.Sequential({layers}).save(sys.argv[1])"
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "0", "KERAS_BACKEND": "tensorflow"}
    model = tmp_path / "model.keras"
    subprocess.run([sys.executable, "-c", code, model], env=environment, check=True, capture_output=True)
    problem = failure(client, model, QUANTIZE)
    assert (problem.code, problem.layer) == ("unsupported_model", "rms")
    assert problem.hint
    assert "tf_keras" in problem.hint


def test_a_pattern_that_matches_no_layer_fails_the_job(client: Client, digits: Digits) -> None:
    step = {"technique": "prune", "layers": {"include": ["conv_of_another_model*"]}}
    problem = failure(client, digits.model, {"steps": [step]}, digits.data)
    assert problem.code == "layer_not_found"
    assert "conv_of_another_model*" in problem.detail


def test_sparsity_out_of_range_is_refused_before_anything_is_sent(client: Client, digits: Digits) -> None:
    step = {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 1.2}}
    with pytest.raises(InvalidSpec):
        client.compress(digits.model, {"steps": [step]})


def test_a_step_that_needs_data_is_refused_without(client: Client, digits: Digits) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.compress(digits.model, TRAIN)
    assert refused.value.code == "dataset_required"


def test_after_all_that_the_worker_is_alive_and_works(
    stack: LocalStack, client: Client, digits: Digits
) -> None:
    assert client.compress(digits.model, QUANTIZE).wait(timeout=60).state == "succeeded"
    assert all(process.exit_code is None for process in stack.processes())


def failure(client: Client, model: Path, spec: Any, data: Path | None = None) -> Problem:
    """The problem a job fails with."""
    with pytest.raises(JobFailed) as failed:
        client.compress(model, spec, dataset=data).wait(timeout=90)
    error = failed.value.job.error
    assert error is not None
    return error


def refusal(client: Client, model: Path, spec: Any, data: Path | None = None) -> str:
    """The code with which a file is refused before there is a job."""
    with pytest.raises(APIError) as refused:
        client.compress(model, spec, dataset=data)
    return refused.value.code


def code_of(error: BaseException) -> str:
    if isinstance(error, JobFailed):
        assert error.job.error is not None
        return error.job.error.code
    assert isinstance(error, APIError)
    return error.code
