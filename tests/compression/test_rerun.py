"""A delivered folder measured again, and every way in which a report's numbers may be wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherweight.cli import main
from featherweight.errors import ConfigurationError, RerunFailed, VerificationFailed
from featherweight.job import Artifact
from featherweight.receipt import RECEIPT
from featherweight.report import FileDigest
from featherweight.rerun import Rerun, rerun
from featherweight.verify import verify
from tasks.compression import compress
from tasks.compression.sizes import sha256
from tasks.receipts import Signer, new_key
from tests.compression.networks import keras, save_model

SERVICE, STRANGER = Signer(new_key()), Signer(new_key())

Change = Callable[[dict[str, Any]], None]


def signed(folder: Path, signer: Signer, inputs: dict[str, Path]) -> Path:
    """`folder` with a receipt over what is in it, as the supervisor makes it."""
    (folder / RECEIPT).unlink(missing_ok=True)
    artifacts = [
        Artifact(name=path.name, format="x", bytes=path.stat().st_size, sha256=sha256(path))
        for path in sorted(folder.iterdir())
    ]
    digests = [
        FileDigest(role=role, name=path.name, bytes=path.stat().st_size, sha256=sha256(path))  # type: ignore[arg-type]
        for role, path in inputs.items()
    ]
    receipt = signer.receipt("job_1", 1, digests, artifacts)
    (folder / RECEIPT).write_text(receipt.model_dump_json())
    return folder


@pytest.fixture(scope="module")
def inputs(cnn_file: Path, digit_file: Path) -> dict[str, Path]:
    return {"model": cnn_file, "dataset": digit_file}


@pytest.fixture(scope="module")
def delivered(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = {
        "steps": [
            {"technique": "prune", "schedule": {"type": "constant_sparsity", "target_sparsity": 0.5}},
            {"technique": "finetune", "epochs": 1},
            {"technique": "quantize", "scheme": "full_int8"},
        ],
        "outputs": ["tflite", "keras", "c_array"],
    }
    work = tmp_path_factory.mktemp("delivered")
    compress(inputs["model"], spec, dataset=inputs["dataset"], workdir=work)
    return signed(work / "out", SERVICE, inputs)


@pytest.fixture
def folder(delivered: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(delivered, tmp_path / "out"))


def change_report(folder: Path, change: Change) -> None:
    path = folder / "report.json"
    report = json.loads(path.read_text())
    change(report)
    path.write_text(json.dumps(report))


def again(folder: Path, signer: Signer, inputs: dict[str, Path]) -> Rerun:
    found = verify(folder, [signer.public])
    return rerun(folder, found.receipt, **inputs)


def output(report: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in report["outputs"] if item["name"] == name)
    return found


def test_untouched_folder_gives_the_numbers_of_its_report(delivered: Path, inputs: dict[str, Path]) -> None:
    found = again(delivered, SERVICE, inputs)
    assert found.agrees, found.differing
    assert found.exact == ["model.tflite", "model.c"]
    places = {(item.file, item.field) for item in found.compared}
    for place in (
        ("", "inputs/dataset/sha256"),
        ("", "data/test"),
        ("", "verdict"),
        ("original", "accuracy/value"),
        ("model.tflite", "accuracy/low"),
        ("model.tflite", "difference/high"),
        ("model.tflite", "flipped"),
        ("model.tflite", "by_class/3/after"),
        ("model.tflite", "arena_bytes"),
        ("model.tflite", "operators/CONV_2D/count"),
        ("model.c", "calibration_error"),
        ("model.keras", "gzip_bytes"),
        ("model.keras", "layers/conv/sparsity_after"),
    ):
        assert place in places
    assert not any("latency" in field for _, field in places)


def test_command_says_that_it_agrees(
    folder: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copyfile(inputs["model"], folder / inputs["model"].name)  # found by its name
    command = ["verify", str(folder), "--key", SERVICE.public.public_key]
    options = ["--rerun", "--dataset", str(inputs["dataset"])]
    assert main([*command, *options]) == 0
    out = capsys.readouterr().out
    assert "values of the report agree" in out
    assert "to the last digit: model.tflite" in out
    assert "not compared: latency" in out
    assert main(command) == 0
    assert "not measured again (--rerun" in capsys.readouterr().out


def _one_sample_better(report: dict[str, Any]) -> None:
    accuracy = output(report, "model.tflite")["accuracy"]
    accuracy["value"] += 1 / accuracy["n"]


def _always_flips(report: dict[str, Any]) -> None:
    output(report, "model.tflite")["flipped"] = 1.0


def _emptier(report: dict[str, Any]) -> None:
    next(layer for layer in report["layers"] if layer["name"] == "conv")["sparsity_after"] = 0.9


def _smaller(report: dict[str, Any]) -> None:
    output(report, "model.keras")["gzip_bytes"] //= 2


def _worse_original(report: dict[str, Any]) -> None:
    report["original"]["accuracy"]["value"] -= 0.1


def _fallen_back(report: dict[str, Any]) -> None:
    operators = output(report, "model.tflite")["operators"]
    next(item for item in operators if item["name"] == "CONV_2D")["in_float"] += 1


def _other_data(report: dict[str, Any]) -> None:
    report["inputs"][1]["sha256"] = "0" * 64


def _other_split(report: dict[str, Any]) -> None:
    report["data"]["test"] += 100


def _other_verdict(report: dict[str, Any]) -> None:
    report["verdict"] = "smaller" if report["verdict"] != "smaller" else "not_smaller"


@pytest.mark.parametrize(
    ("change", "file", "field"),
    [
        (_one_sample_better, "model.tflite", "accuracy/value"),
        (_always_flips, "model.tflite", "flipped"),
        (_emptier, "model.keras", "layers/conv/sparsity_after"),
        (_smaller, "model.keras", "gzip_bytes"),
        (_worse_original, "original", "accuracy/value"),
        (_fallen_back, "model.tflite", "operators/CONV_2D/in_float"),
        (_other_data, "", "inputs/dataset/sha256"),
        (_other_split, "", "data/test"),
        (_other_verdict, "", "verdict"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_false_number_passes_the_receipt_of_a_false_key_and_not_the_measurement(
    change: Change, file: str, field: str, folder: Path, inputs: dict[str, Path]
) -> None:
    change_report(folder, change)
    # By itself the report is not the one that was signed.
    with pytest.raises(VerificationFailed, match=r"report\.json was changed"):
        verify(folder, [SERVICE.public])
    # Signed anew with another key it is not by the service.
    signed(folder, STRANGER, inputs)
    with pytest.raises(VerificationFailed, match="not among those known"):
        verify(folder, [SERVICE.public])
    # Who trusts that key is told by the second measurement alone.
    found = again(folder, STRANGER, inputs)
    assert (file, field) in {(item.file, item.field) for item in found.differing}


def test_command_fails_with_what_differs(
    folder: Path, inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    change_report(folder, _one_sample_better)
    signed(folder, STRANGER, inputs)
    command = ["verify", str(folder), "--key", STRANGER.public.public_key, "--json", "--rerun"]
    command += [part for role, path in inputs.items() for part in (f"--{role}", str(path))]
    assert main(command) == 12
    found = json.loads(capsys.readouterr().out)["rerun"]
    assert found["agrees"] is False
    (fault,) = [item for item in found["compared"] if not item["agrees"]]
    assert (fault["file"], fault["field"], fault["tolerance"]) == ("model.tflite", "accuracy/value", 0.0)


def test_changed_output_signed_anew_does_not_give_its_numbers(folder: Path, inputs: dict[str, Path]) -> None:
    path = folder / "model.tflite"
    content = bytearray(path.read_bytes())
    kernel = content.rindex(_longest_weights(bytes(content)))
    content[kernel : kernel + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    signed(folder, STRANGER, inputs)
    found = again(folder, STRANGER, inputs)
    fields = {item.field for item in found.differing if item.file == "model.tflite"}
    assert {"sha256", "accuracy/value", "flipped"} <= fields
    assert not [item for item in found.differing if item.file == "model.c"]


def _longest_weights(content: bytes) -> bytes:
    from tasks.compression.tflite import read

    buffers = [item.data for item in read(content).buffers if item.data is not None]
    return bytes(np.asarray(max(buffers, key=len), dtype=np.uint8))


def test_other_inputs_than_the_jobs_are_refused(
    folder: Path, inputs: dict[str, Path], tmp_path: Path
) -> None:
    receipt = verify(folder, [SERVICE.public]).receipt
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((20, 28, 28)), y=np.zeros(20, dtype=int))
    with pytest.raises(VerificationFailed, match="not the data set that the job had"):
        rerun(folder, receipt, model=inputs["model"], dataset=other)
    with pytest.raises(ConfigurationError, match=r"--model FILE"):
        rerun(folder, receipt, dataset=inputs["dataset"])


def test_report_that_names_another_file_is_refused(folder: Path, inputs: dict[str, Path]) -> None:
    change_report(folder, lambda report: output(report, "model.c").update(name="../elsewhere"))
    signed(folder, STRANGER, inputs)
    with pytest.raises(VerificationFailed, match="which the receipt does not name"):
        again(folder, STRANGER, inputs)


def test_without_an_engine_it_says_so_and_has_an_exit_code_of_its_own(
    folder: Path,
    inputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tasks.compression.rerun", None)
    command = ["verify", str(folder), "--key", SERVICE.public.public_key]
    rest = ["--rerun", "--model", str(inputs["model"]), "--dataset", str(inputs["dataset"])]
    assert main([*command, *rest]) == 13
    assert "the engine is not installed here" in capsys.readouterr().err
    assert main(command) == 0  # signature and digests need none


def test_file_that_does_not_run_is_told_and_no_crash(folder: Path, inputs: dict[str, Path]) -> None:
    (folder / "model.keras").write_bytes(b"PK\x03\x04 no model at all")
    signed(folder, STRANGER, inputs)
    with pytest.raises(RerunFailed):
        again(folder, STRANGER, inputs)


def test_errors_and_several_outputs_agree_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    layers = keras().layers
    keras().utils.set_random_seed(0)
    x = layers.Input((6,), name="x")
    hidden = layers.Dense(16, activation="relu")(x)
    model = keras().Model(
        x, [layers.Dense(3, name="kind")(hidden), layers.Dense(1, name="size")(hidden)], name="net"
    )
    logits = keras().losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", {"kind": logits, "size": "mse"})
    samples = generator.random((300, 6), dtype=np.float32)
    labels = {"kind": samples[:, :3].argmax(axis=1), "size": samples.sum(axis=1)}
    model.fit(samples, labels, epochs=3, verbose=0)
    data = tmp_path / "data.npz"
    np.savez(data, **{"x": samples, "y/kind": labels["kind"], "y/size": labels["size"]})
    inputs = {"model": save_model(model, tmp_path / "net.keras"), "dataset": data}
    spec = {
        "steps": [{"technique": "quantize", "scheme": "dynamic_int8"}],
        "outputs": ["tflite", "onnx", "saved_model"],
    }
    compress(inputs["model"], spec, dataset=data, workdir=tmp_path / "work")
    folder = signed(tmp_path / "work" / "out", SERVICE, inputs)
    found = again(folder, SERVICE, inputs)
    assert found.agrees, found.differing
    fields = {item.field for item in found.compared if item.file == "model.tflite"}
    assert {"by_output/size/accuracy/value", "by_output/kind/by_class/0/after"} <= fields
    assert any("without a keras output" in sentence for sentence in found.left_out)

    change_report(folder, lambda report: _larger_error(output(report, "model.tflite")))
    signed(folder, STRANGER, inputs)
    (fault,) = again(folder, STRANGER, inputs).differing
    assert fault.field == "by_output/size/difference/value"


def _larger_error(item: dict[str, Any]) -> None:
    part = item["by_output"]["size"]
    part["difference"]["value"] -= 0.05 * part["accuracy"]["value"]


def test_without_data_the_files_are_compared_by_their_bytes(cnn_file: Path, tmp_path: Path) -> None:
    spec = {"steps": [{"technique": "quantize", "scheme": "float16"}], "outputs": ["tflite"]}
    compress(cnn_file, spec, workdir=tmp_path)
    folder = signed(tmp_path / "out", SERVICE, {"model": cnn_file})
    found = rerun(folder, verify(folder, [SERVICE.public]).receipt, model=cnn_file)
    assert found.agrees, found.differing
    assert any("no data set" in sentence for sentence in found.left_out)
    assert not [item for item in found.compared if "accuracy" in item.field]
