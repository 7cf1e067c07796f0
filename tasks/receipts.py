"""Signs what a worker has stored of a job. The key stays with the supervisor: the runner, which works on a
caller's bytes, never has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import rfc8785
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from featherweight._version import version
from featherweight.job import Artifact
from featherweight.receipt import Receipt, ReceiptFile, ReceiptKey, signed_part
from featherweight.report import FileDigest

__all__ = ["InvalidReceiptKey", "Signer", "new_key"]


class InvalidReceiptKey(ValueError):
    """The setting is no Ed25519 key. Says nothing of what it is."""


def new_key() -> str:
    """A private key as the setting takes it: 32 random bytes in base64."""
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()


class Signer:
    """`text` is the private key, as PEM or as 32 bytes in base64. InvalidReceiptKey."""

    def __init__(self, text: str) -> None:
        self._key = _private_key(text.strip())

    @property
    def public(self) -> ReceiptKey:
        raw = self._key.public_key().public_bytes_raw()
        return ReceiptKey(
            key_id=hashlib.sha256(raw).hexdigest()[:16],
            algorithm="Ed25519",
            public_key=base64.b64encode(raw).decode(),
        )

    def receipt(
        self, job_id: str, attempt: int, inputs: Sequence[FileDigest], artifacts: Sequence[Artifact]
    ) -> Receipt:
        """Of the files as stored, signed."""
        unsigned = Receipt(
            job_id=job_id,
            attempt=attempt,
            signed_at=datetime.now(UTC),
            inputs=list(inputs),
            files=[ReceiptFile(name=item.name, bytes=item.bytes, sha256=item.sha256) for item in artifacts],
            versions={"featherweight": version()},
            key_id=self.public.key_id,
        )
        signed = rfc8785.dumps(signed_part(unsigned.model_dump(mode="json")))
        signature = base64.b64encode(self._key.sign(signed)).decode()
        return unsigned.model_copy(update={"signature": signature})


def _private_key(text: str) -> Ed25519PrivateKey:
    try:
        if text.startswith("-----BEGIN"):
            key = serialization.load_pem_private_key(text.encode(), password=None)
        else:
            key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(text, validate=True))
    except (ValueError, TypeError, binascii.Error):
        # Without the cause, which may quote the key.
        raise InvalidReceiptKey("the receipt key is neither PEM nor 32 bytes in base64") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidReceiptKey("the receipt key is not an Ed25519 key")
    return key
