"""The version that the service says it has."""

from __future__ import annotations

import importlib.metadata

__all__ = ["version"]


def version() -> str:
    try:
        return importlib.metadata.version("featherweight")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"
