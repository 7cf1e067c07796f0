"""The version of the library, from the metadata it was installed with."""

from __future__ import annotations

from importlib import metadata

__all__ = ["version"]


def version() -> str:
    """Such as ``0.1.0``; ``0+unknown`` when run from a checkout that was never installed."""
    try:
        return metadata.version("featherweight")
    except metadata.PackageNotFoundError:
        return "0+unknown"
