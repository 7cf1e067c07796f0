"""Requests to addresses that callers give us, which must not reach what callers cannot reach themselves.

urls        what may be asked for at all: scheme, host, port, and how they are spelt
addresses   which IP addresses are the public internet
fetch       one GET: resolved once, connected to the very address that was looked at, no redirects
"""

from __future__ import annotations

from tasks.outbound.fetch import Answer, Fetcher, FetchFailed
from tasks.outbound.urls import Origin, Policy, Target, UrlNotAllowed

__all__ = ["Answer", "FetchFailed", "Fetcher", "Origin", "Policy", "Target", "UrlNotAllowed"]
