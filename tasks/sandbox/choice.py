"""The sandbox that the settings ask for, and what of our own code it leaves readable."""

from __future__ import annotations

from pathlib import Path

from tasks.sandbox.lockdown import Sandbox, chosen_user
from tasks.settings import Settings

__all__ = ["chosen_sandbox", "source_of"]

_ROOT = Path(__file__).parents[2]


def chosen_sandbox(settings: Settings) -> Sandbox:
    """Made once: the folder for jobs is made if it is missing, to see who can reach it; OSError."""
    settings.scratch_dir.mkdir(parents=True, exist_ok=True)
    return Sandbox(kind=settings.sandbox, uid=chosen_user(settings.runner_uid, settings.scratch_dir))


def source_of(target: str) -> list[Path]:
    """The folder of the package that "module:function" is in, where that is one of the checkout."""
    package = _ROOT / target.partition(":")[0].partition(".")[0]
    return [package] if package.is_dir() else []
