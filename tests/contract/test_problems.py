"""Problem codes: every one that the service raises is known, and every one known is raised somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from featherweight.problem import CODES

ROOT = Path(__file__).parents[2]

# Named in the contract for what is still to come.
RESERVED = {"forbidden", "not_acceptable", "rate_limited", "job_done", "nothing_to_do"}


def words(folder: str) -> set[str]:
    """Every string constant in the Python and Lua of a folder that could be a code."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    for path in (ROOT / folder).rglob("*.lua"):
        found.update(re.findall(r"'(\w+)'", path.read_text()))
    return found


def test_every_code_is_used() -> None:
    assert set(CODES) - words("service") - words("tasks") - RESERVED == set()


def test_codes_fit_their_status() -> None:
    for code, known in CODES.items():
        assert 400 <= known.status < 600, code
        assert known.title[0].isupper(), code
        assert not known.title.endswith("."), code
        # What is retried blindly must be able to succeed: a wrong request never does.
        assert not known.retryable or known.status in (409, 429, 500, 503), code
