"""Object storage (S3): the few verbs this project uses.

A missing object is FileNotFoundError, one that exists already FileExistsError, and everything that
keeps us from knowing (unreachable, refused, 5xx, cut off) StorageUnavailable.
"""

from __future__ import annotations

from tasks.storage.bucket import OCTETS
from tasks.storage.clients import IMPATIENT, PATIENT, Patience
from tasks.storage.errors import ObjectChanged, StorageUnavailable, TooLarge
from tasks.storage.multipart import OpenUpload, part_headers
from tasks.storage.objects import Storage, StoredObject

__all__ = [
    "IMPATIENT",
    "OCTETS",
    "PATIENT",
    "ObjectChanged",
    "OpenUpload",
    "Patience",
    "Storage",
    "StorageUnavailable",
    "StoredObject",
    "TooLarge",
    "part_headers",
]
