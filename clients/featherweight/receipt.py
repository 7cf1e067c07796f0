"""A receipt: which files a job took and made, by their sha256, signed by the service's worker.

The signature is Ed25519 (RFC 8032) over the receipt without its `signature`, as canonical JSON (RFC 8785).
The worker's supervisor makes it over what it hashed itself, outside of the process that did the job. A
receipt says what was delivered, not that the numbers in the report are right: that a job with these inputs
ended in these files, of which ``report.json`` is one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from featherweight.report import FileDigest

__all__ = ["RECEIPT", "Receipt", "ReceiptFile", "ReceiptKey", "signed_part"]

RECEIPT: Final = "receipt.json"


class ReceiptFile(BaseModel):
    """A file of the job: an output, or what stands beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    bytes: int
    sha256: str


class Receipt(BaseModel):
    """`key_id` names the key of ``GET /.well-known/receipt_keys`` that the base64 signature was made with.
    A field that is none of these is refused: nobody may add to what was signed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    job_id: str
    attempt: int
    signed_at: datetime
    inputs: list[FileDigest]
    files: list[ReceiptFile]
    versions: dict[str, str]
    algorithm: Literal["Ed25519"] = "Ed25519"
    key_id: str
    signature: str = ""


class ReceiptKey(BaseModel):
    """A public key receipts are checked with: 32 bytes in base64. `key_id` is the beginning of its sha256."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    key_id: str
    algorithm: str
    public_key: str


def signed_part(receipt: dict[str, Any]) -> dict[str, Any]:
    """The fields of a receipt, as JSON has them, that the signature is over."""
    return {name: value for name, value in receipt.items() if name != "signature"}
