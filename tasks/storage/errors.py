"""What asking the object storage may come to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import urllib3.exceptions
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, ReadTimeoutError

__all__ = [
    "TAKEN",
    "ObjectChanged",
    "StorageUnavailable",
    "TooLarge",
    "code_of",
    "is_silence",
    "translated",
]

_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
TAKEN = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
"""Codes for a condition of the request that the object does not meet."""


class StorageUnavailable(Exception):
    """The object storage could not be asked, or did not answer."""


class ObjectChanged(Exception):
    """The object is no longer the one that was asked for."""


class TooLarge(ValueError):
    """A stream held more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"more than {max_bytes} bytes")
        self.max_bytes = max_bytes


@contextmanager
def translated(key: str) -> Iterator[None]:
    """Turn the vendor's errors into ours."""
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in _MISSING:
            raise FileNotFoundError(key) from error
        if code in TAKEN:
            raise FileExistsError(key) from error
        raise StorageUnavailable(f"the object storage answered {code}") from error
    except (BotoCoreError, urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise StorageUnavailable(f"the object storage is unreachable: {type(error).__name__}") from error


def is_silence(error: BaseException) -> bool:
    """Whether somebody was waited for in vain."""
    return isinstance(error, ReadTimeoutError | ConnectTimeoutError | urllib3.exceptions.TimeoutError)


def code_of(error: ClientError) -> str:
    """The vendor's, empty where there is none."""
    return str(error.response.get("Error", {}).get("Code", ""))
