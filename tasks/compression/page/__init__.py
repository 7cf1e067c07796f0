"""The report as one HTML page: nothing is fetched, nothing is run, and every word of it is escaped.

    page(report) -> str

`charts` draws, `tables` lists, `styles` is the page's only style sheet.
"""

from __future__ import annotations

from tasks.compression.page.document import page

__all__ = ["page"]
