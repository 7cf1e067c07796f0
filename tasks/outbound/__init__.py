"""Requests to addresses that callers give us, which must not reach what callers cannot reach themselves.

urls        what may be asked for at all: scheme, host, port, and how they are spelt
addresses   which IP addresses are the public internet
pinned      resolved once, connected to the very address that was looked at
fetch       one GET of a whole file
post        one POST, for its status
"""

from __future__ import annotations

from tasks.outbound.fetch import Answer, Fetcher
from tasks.outbound.pinned import FetchFailed
from tasks.outbound.post import Poster, Reply
from tasks.outbound.urls import Origin, Policy, Target, UrlNotAllowed

__all__ = [
    "Answer",
    "FetchFailed",
    "Fetcher",
    "Origin",
    "Policy",
    "Poster",
    "Reply",
    "Target",
    "UrlNotAllowed",
]
