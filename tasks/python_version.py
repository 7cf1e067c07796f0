"""Whether the Python we run on has the repairs that matter to those who read strangers' files.

CVE-2025-8194 (reading a tar archive never ends) and CVE-2025-4517 with its kin (extracting one writes
elsewhere) are repaired from these versions on. An older one is told of and not refused: distributions repair
without changing the number, we extract nothing, and our way of reading tar, as a stream, is tested to end.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["FLOORS", "outdated", "warn_if_outdated"]

_log = logging.getLogger(__name__)

FLOORS = {(3, 11): 14, (3, 12): 12}


def outdated(version: tuple[int, int, int]) -> str | None:
    """What is to be said of this Python version; None when it is new enough."""
    major, minor, micro = version
    floor = FLOORS.get((major, minor))
    if floor is None or micro >= floor:
        return None
    return (
        f"Python {major}.{minor}.{micro} is older than {major}.{minor}.{floor}, which repairs tarfile "
        "(CVE-2025-8194, CVE-2025-4517); the way it is used here is not known to be affected"
    )


def warn_if_outdated() -> None:
    if sentence := outdated(sys.version_info[:3]):
        _log.warning("%s", sentence)
