"""docs/problems.md: every problem code of the contract."""

from __future__ import annotations

from featherweight.problem import CODES

__all__ = ["page"]

_INTRODUCTION = """# Problems

Every error is an RFC 9457 problem (`application/problem+json`); a failed job carries the same shape in
its `error`. `code` is stable and is what programs should test. *Retryable* means that the same request
can succeed later.

| Code | Status | Retryable | |
| --- | --- | --- | --- |
"""


def page() -> str:
    rows = [
        f"| `{name}` | {code.status} | {'yes' if code.retryable else ''} | {code.title} |\n"
        for name, code in CODES.items()
    ]
    return _INTRODUCTION + "".join(rows)
