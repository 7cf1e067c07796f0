"""Receipts: made by the worker's signer, checked by the client, and what happens when a byte changes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from featherweight.cli import main
from featherweight.errors import ConfigurationError, VerificationFailed
from featherweight.job import Artifact
from featherweight.receipt import RECEIPT
from featherweight.report import FileDigest
from featherweight.verify import key_of, verify
from tasks.receipts import InvalidReceiptKey, Signer, new_key

FILES = {
    "model.tflite": b"\x1c\0\0\0TFL3" + bytes(100),
    "report.json": json.dumps({"outputs": [{"bytes": 108, "accuracy": 0.9731}]}).encode(),
    "spec.json": b"{}",
}


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(new_key())


@pytest.fixture
def folder(signer: Signer, tmp_path: Path) -> Path:
    artifacts = []
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        artifacts.append(Artifact(name=name, format="x", bytes=len(content), sha256=digest))
    model = FileDigest(role="model", name="net.keras", bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    receipt = signer.receipt("job_1", 2, [model], artifacts)
    (tmp_path / RECEIPT).write_text(receipt.model_dump_json(indent=2))
    return tmp_path


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_untouched_files_pass(folder: Path, signer: Signer) -> None:
    found = verify(folder, [signer.public])
    assert found.files == list(FILES)
    assert (found.receipt.job_id, found.receipt.attempt) == ("job_1", 2)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_bit_in_any_file_is_found_and_named(folder: Path, signer: Signer, name: str) -> None:
    content = bytearray(FILES[name])
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(VerificationFailed, match=f"^{name} was changed"):
        verify(folder, [signer.public])


def test_changed_number_in_the_report_is_found(folder: Path, signer: Signer) -> None:
    path = folder / "report.json"
    path.write_text(path.read_text().replace("0.9731", "0.9931"))
    with pytest.raises(VerificationFailed, match=r"report\.json was changed"):
        verify(folder, [signer.public])


def test_all_faults_are_told_at_once(folder: Path, signer: Signer) -> None:
    (folder / "spec.json").unlink()
    (folder / "model.tflite").write_bytes(b"")
    with pytest.raises(VerificationFailed, match=r"model\.tflite was changed.*spec\.json is missing"):
        verify(folder, [signer.public])


@pytest.mark.parametrize(
    "fields",
    [
        {"job_id": "job_2"},
        {"files": []},
        {"signed_at": "2020-01-01T00:00:00Z"},
        {"inputs": []},
        {"attempt": 1},
        {"versions": {}},
        {"signature": "AAAA"},
        {"signature": "no base64!"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_changed_receipt_is_found(folder: Path, signer: Signer, fields: dict[str, Any]) -> None:
    changed(folder / RECEIPT, **fields)
    with pytest.raises(VerificationFailed, match="the signature is wrong"):
        verify(folder, [signer.public])


def test_field_nobody_signed_is_refused(folder: Path, signer: Signer) -> None:
    changed(folder / RECEIPT, remark="trust me")
    with pytest.raises(VerificationFailed, match="is no receipt"):
        verify(folder, [signer.public])


def test_layout_of_the_receipt_does_not_matter(folder: Path, signer: Signer) -> None:
    path = folder / RECEIPT
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=8))
    verify(folder, [signer.public])


def test_another_key_does_not_do(folder: Path, signer: Signer) -> None:
    other = Signer(new_key()).public
    with pytest.raises(VerificationFailed, match="not among those known"):
        verify(folder, [other])
    with pytest.raises(VerificationFailed, match="is another one"):
        verify(folder, [other.model_copy(update={"key_id": signer.public.key_id})])


def test_receipt_that_names_a_path_is_refused(signer: Signer, tmp_path: Path) -> None:
    outside = Artifact(name="../secret", format="x", bytes=0, sha256="0" * 64)
    (tmp_path / RECEIPT).write_text(signer.receipt("job_1", 1, [], [outside]).model_dump_json())
    with pytest.raises(VerificationFailed, match="no name of a file in the folder"):
        verify(tmp_path, [signer.public])


def test_input_that_lies_there_too_is_checked(folder: Path, signer: Signer) -> None:
    (folder / "net.keras").write_bytes(b"abc")
    assert verify(folder, [signer.public]).inputs == ["net.keras"]
    (folder / "net.keras").write_bytes(b"abd")
    with pytest.raises(VerificationFailed, match=r"net\.keras was changed"):
        verify(folder, [signer.public])


def test_output_called_like_the_input_is_not_taken_for_it(signer: Signer, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"small")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"large", b"small")]
    model = FileDigest(role="model", name="model.keras", bytes=5, sha256=digests[0])
    output = Artifact(name="model.keras", format="keras", bytes=5, sha256=digests[1])
    (tmp_path / RECEIPT).write_text(signer.receipt("job_1", 1, [model], [output]).model_dump_json())
    assert verify(tmp_path, [signer.public]).inputs == []


def test_folder_without_a_receipt(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match="holds no receipt"):
        verify(tmp_path, [])


def test_keys_are_taken_in_every_form() -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public_pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public = Signer(pem).public
    forms = (public_pem.decode(), public.public_key, public.model_dump_json())
    assert [key_of(form) for form in forms] == [public] * 3
    with pytest.raises(ValueError, match="neither PEM nor"):
        key_of("c2hvcnQ=")


@pytest.mark.parametrize("text", ["", "c2VjcmV0", "not base64", "-----BEGIN " + "PRIVATE KEY-----\nsecret"])
def test_what_is_no_private_key_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidReceiptKey) as caught:
        Signer(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_key_of_another_kind_is_refused() -> None:
    pem = generate_private_key(SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(InvalidReceiptKey, match="not an Ed25519 key"):
        Signer(pem.decode())


def test_command_passes_and_fails_with_its_exit_code(
    folder: Path, signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", str(folder), "--key", signer.public.public_key]
    assert main(command) == 0
    assert "ok  model.tflite" in capsys.readouterr().out
    (folder / "model.tflite").write_bytes(b"something else")
    assert main(command) == 11
    assert "model.tflite was changed" in capsys.readouterr().err


def test_without_cryptography_it_says_what_to_install(
    folder: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rfc8785", None)
    with pytest.raises(ConfigurationError, match=r"featherweight\[verify\]"):
        verify(folder, [signer.public])
