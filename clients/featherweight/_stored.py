"""``client.models`` and ``client.datasets``: the files the service keeps."""

from __future__ import annotations

import os
from typing import Generic, TypeVar
from urllib.parse import quote

from featherweight._listing import Listing
from featherweight._transport import Session
from featherweight._uploads import OnProgress, Uploader
from featherweight.batch import BatchFile
from featherweight.resources import Dataset, Model, UploadKind

__all__ = ["StoredFiles"]

R = TypeVar("R", bound=Model | Dataset | BatchFile)


class StoredFiles(Generic[R]):
    def __init__(
        self,
        session: Session,
        uploader: Uploader,
        kind: UploadKind,
        type_: type[R],
        collection: str | None = None,
    ) -> None:
        """`collection` is what the API calls them, where that is not the kind's plural."""
        self._session = session
        self._uploader = uploader
        self._kind = kind
        self._type = type_
        self._path = f"/v1/{collection or f'{kind}s'}"

    def upload(self, path: str | os.PathLike[str], *, on_progress: OnProgress | None = None) -> R:
        """Send the file at `path`, resuming an upload of the same file that was broken off.

        The file is never held in memory. `on_progress(sent, total)` is called with bytes, from
        several threads but never at once.
        """
        return self._uploader.send(self._kind, self._type, self._path, path, on_progress)

    def get(self, id: str) -> R:
        return self._session.get(self._one(id), self._type)

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Listing[R]:
        """Newest first; `limit` to a page. Iterating goes through all pages."""
        return Listing(self._session, self._path, self._type, {"limit": limit, "cursor": cursor})

    def delete(self, id: str) -> None:
        self._session.delete(self._one(id))

    def _one(self, id_: str) -> str:
        return f"{self._path}/{quote(id_, safe='')}"
