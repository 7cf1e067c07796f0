"""A list of the API: its first page, and the way through all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from featherweight._transport import Session
from featherweight.resources import Page

__all__ = ["Listing"]

R = TypeVar("R", bound=BaseModel)


class Listing(Generic[R]):
    """One page, newest first. Iterating goes on through the pages that follow, fetched as needed."""

    def __init__(self, session: Session, path: str, type_: type[R], params: Mapping[str, Any]) -> None:
        self._session = session
        self._path = path
        self._type = type_
        self._params = params
        self._page: Page[R] = session.get(path, Page[type_], params=params)  # type: ignore[valid-type]

    @property
    def data(self) -> list[R]:
        """What stands on this page."""
        return self._page.data

    @property
    def has_more(self) -> bool:
        return self._page.has_more

    @property
    def next_cursor(self) -> str | None:
        return self._page.next_cursor

    def next_page(self) -> Listing[R] | None:
        """The page after this one; None at the end."""
        if not self.has_more or self.next_cursor is None:
            return None
        params = {**self._params, "cursor": self.next_cursor}
        return Listing(self._session, self._path, self._type, params)

    def __iter__(self) -> Iterator[R]:
        page: Listing[R] | None = self
        while page is not None:
            yield from page.data
            page = page.next_page()
