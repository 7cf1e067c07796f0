"""The index of an attempt's progress. What it does not name is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

__all__ = ["FOLDERS", "INDEX_BYTES", "MAX_FILES", "Index", "KeptFile", "by_attempt"]

FOLDERS = ("checkpoints", "steps")
"""In this order: a checkpoint that is found had all the steps before it finished when it was written."""

MAX_FILES = 1000
INDEX_BYTES = 1024 * 1024

_ATTEMPT = re.compile(r"a([1-9][0-9]{0,8})/.+")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptFile(_Stored):
    """`path` is in the working folder, `number` the name of the object with its bytes."""

    path: Annotated[
        str,
        StringConstraints(pattern=rf"^({'|'.join(FOLDERS)})(/{_PART})+$", max_length=500),
    ]
    number: Annotated[int, Field(ge=1)]
    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Index(_Stored):
    """Files that belong together, of one attempt at one job."""

    version: Literal[1] = 1
    job_id: str
    attempt: int
    files: Annotated[Sequence[KeptFile], Field(max_length=MAX_FILES)]

    @model_validator(mode="after")
    def _has_each_path_once(self) -> Self:
        paths = [file.path for file in self.files]
        if len(set(paths)) < len(paths):
            raise ValueError("a path is there twice")
        return self

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def by_attempt(prefix: str, keys: Iterable[str]) -> dict[int, list[str]]:
    """Those of `keys` that lie beneath `prefix` in the place of an attempt, by its number."""
    found: dict[int, list[str]] = {}
    for key in keys:
        if place := _ATTEMPT.fullmatch(key.removeprefix(prefix)):
            found.setdefault(int(place[1]), []).append(key)
    return found
