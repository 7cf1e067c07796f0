"""``client.models``: stored models, and what is in them."""

from __future__ import annotations

from featherweight._stored import StoredFiles
from featherweight._transport import Session, decode
from featherweight._uploads import Uploader
from featherweight.inspection import Inspection
from featherweight.resources import Model

__all__ = ["Models"]


class Models(StoredFiles[Model]):
    def __init__(self, session: Session, uploader: Uploader) -> None:
        super().__init__(session, uploader, "model", Model)

    def inspect(self, id: str) -> Inspection:
        """What is in the model, and which techniques and formats are possible, for which layers, and why not.

        A model that no job would take is no error: `usable` of the inspection is False and `problem` says
        why.
        """
        return decode(self._session.post(f"{self._one(id)}/inspection"), Inspection)
