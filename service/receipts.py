"""``/.well-known/receipt_keys``: what receipts are checked with."""

from __future__ import annotations

from flask import Blueprint, Response

from featherweight.receipt import ReceiptKey
from featherweight.resources import Page
from service.auth import public
from service.openapi import Shape, operation
from service.rendering import json_answer
from service.services import services
from tasks import keys

__all__ = ["bp"]

bp = Blueprint("receipts", __name__, url_prefix="/.well-known")


@bp.get("/receipt_keys")
@public
@operation(
    summary="The public keys that receipts are checked with",
    answers={200: Shape(Page[ReceiptKey], "All that workers have signed with, those no longer used too.")},
    problems=["storage_unavailable"],
)
def index() -> Response:
    """A worker publishes its public key before it signs the first receipt with it."""
    storage = services().storage
    found = [
        ReceiptKey.model_validate(storage.get_json(key))
        for key in sorted(storage.list_keys(keys.RECEIPT_KEYS))
    ]
    return json_answer(Page[ReceiptKey](data=found, has_more=False))
