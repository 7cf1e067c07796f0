"""Checks a folder of downloaded files against the receipt in it: its signature, and every file's sha256.

Needs ``featherweight[verify]``: the signature is checked with ``cryptography``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from featherweight._files import sha256_of
from featherweight.errors import ConfigurationError, VerificationFailed
from featherweight.receipt import RECEIPT, Receipt, ReceiptKey, signed_part

__all__ = ["Verified", "key_of", "verify"]

_MAX_RECEIPT_BYTES = 1_000_000


@dataclass(frozen=True)
class Verified:
    """`files` are the names checked; `inputs` those of the job's inputs that are in the folder too."""

    receipt: Receipt
    files: list[str]
    inputs: list[str]


def verify(directory: Path, keys: Iterable[ReceiptKey]) -> Verified:
    """Check the folder with whichever of `keys` the receipt names.

    Raises VerificationFailed, which says of every file what is wrong with it; ConfigurationError where
    ``cryptography`` is not installed.
    """
    content = _read(directory / RECEIPT)
    receipt = _parsed(content)
    _check_signature(content, receipt, keys)
    faults = [fault for file in receipt.files if (fault := _fault(directory, file.name, file.sha256))]
    # An output may have the name that an input was uploaded with: then it is the output that lies there.
    made = {file.name for file in receipt.files}
    inputs = [
        file
        for file in receipt.inputs
        if file.name not in made and _is_plain(file.name) and (directory / file.name).is_file()
    ]
    faults += [fault for file in inputs if (fault := _fault(directory, file.name, file.sha256))]
    if faults:
        raise VerificationFailed("; ".join(faults))
    return Verified(receipt, [file.name for file in receipt.files], [file.name for file in inputs])


def key_of(text: str) -> ReceiptKey:
    """A public key given as PEM, as 32 bytes in base64, or as an entry of ``GET /.well-known/receipt_keys``.

    ValueError for anything else.
    """
    text = text.strip()
    if text.startswith("{"):
        return ReceiptKey.model_validate_json(text)
    if text.startswith("-----BEGIN"):
        return _described(_raw_of_pem(text))
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise ValueError("the key is neither PEM nor 32 bytes in base64")
    return _described(raw)


def _described(raw: bytes) -> ReceiptKey:
    key_id = hashlib.sha256(raw).hexdigest()[:16]
    return ReceiptKey(key_id=key_id, algorithm="Ed25519", public_key=base64.b64encode(raw).decode())


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise VerificationFailed(f"{path} is not there: the folder holds no receipt")
    if path.stat().st_size > _MAX_RECEIPT_BYTES:
        raise VerificationFailed(f"{path.name} is too large for a receipt")
    return path.read_bytes()


def _parsed(content: bytes) -> Receipt:
    try:
        return Receipt.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise VerificationFailed(f"{RECEIPT} is no receipt: {where} {first['msg']}") from error


def _check_signature(content: bytes, receipt: Receipt, keys: Iterable[ReceiptKey]) -> None:
    known = {key.key_id: key for key in keys}
    key = known.get(receipt.key_id)
    if key is None:
        offered = ", ".join(sorted(known)) or "none"
        raise VerificationFailed(
            f"{RECEIPT} was signed with the key {receipt.key_id}, which is not among those known ({offered})"
        )
    raw = base64.b64decode(key.public_key)
    if hashlib.sha256(raw).hexdigest()[:16] != key.key_id:
        raise VerificationFailed(f"the key given for {key.key_id} is another one")
    # Of the bytes themselves, not of what was parsed: a date written otherwise is another receipt.
    _check_bytes(raw, receipt.signature, _canonical(signed_part(json.loads(content))))


def _check_bytes(raw: bytes, signature: str, signed: bytes) -> None:
    ed25519, invalid = _cryptography()
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(
            base64.b64decode(signature, validate=True), signed
        )
    except (invalid, ValueError) as error:
        raise VerificationFailed(
            f"{RECEIPT} was changed, or not signed by this key: the signature is wrong"
        ) from error


def _canonical(value: Any) -> bytes:
    try:
        import rfc8785
    except ImportError as error:
        raise _missing() from error
    return bytes(rfc8785.dumps(value))


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise _missing() from error
    return ed25519, InvalidSignature


def _raw_of_pem(text: str) -> bytes:
    ed25519, _ = _cryptography()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key = load_pem_public_key(text.encode())
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError("the key is not an Ed25519 key")
    return bytes(key.public_bytes_raw())


def _missing() -> ConfigurationError:
    return ConfigurationError(
        "signatures are checked with packages that are not installed: pip install 'featherweight[verify]'"
    )


def _fault(directory: Path, name: str, sha256: str) -> str | None:
    """What is wrong with a file; None when it is the one that was signed for."""
    path = directory / name
    if not _is_plain(name):
        return f"{name!r} is no name of a file in the folder"
    if not path.is_file():
        return f"{name} is missing"
    found = sha256_of(path)
    return None if found == sha256 else f"{name} was changed: its sha256 is {found}, not {sha256}"


def _is_plain(name: str) -> bool:
    return Path(name).name == name and name not in ("", ".", "..")
