"""The generated pages of docs/: written by ``python -m deploy.documentation``, compared by a test.

docs/configuration.md    from deploy/env.example and tasks.settings.Settings
docs/api.md              from the service's OpenAPI document
docs/problems.md         from the contract's problem codes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from deploy.documentation import api, configuration, problems

__all__ = ["PAGES", "stale_pages", "write_pages"]

_DOCS = Path(__file__).parents[2] / "docs"
_NOTE = "<!-- Made by 'make docs'. Do not edit. -->\n\n"

PAGES: Mapping[Path, Callable[[], str]] = {
    _DOCS / "configuration.md": configuration.page,
    _DOCS / "api.md": api.page,
    _DOCS / "problems.md": problems.page,
}


def write_pages() -> None:
    for path, page in PAGES.items():
        path.write_text(_NOTE + page())


def stale_pages() -> list[Path]:
    """The pages that are not what they would be if they were made now."""
    return [path for path, page in PAGES.items() if not path.exists() or path.read_text() != _NOTE + page()]
