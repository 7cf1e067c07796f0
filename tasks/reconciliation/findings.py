"""What a reconciliation can find."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Finding", "Report", "What"]

What = Literal["orphan_object", "orphan_upload", "lost_record", "missing_object", "wrong_size", "wrong_count"]


class Finding(BaseModel):
    """One thing that is wrong. `subject` is a storage key, or the id of a record; `bytes` what it takes up,
    or is counted too much; `mended` says that it is put right now."""

    model_config = ConfigDict(frozen=True)

    what: What
    project: str
    subject: str
    bytes: int = 0
    detail: str
    mended: bool = False


@dataclass
class Report:
    """Of how much was looked at, and what was found of each kind. `younger` counts objects without a record
    that are too young to be called orphans, `others` objects of kinds that are not looked into."""

    objects: int = 0
    records: int = 0
    younger: int = 0
    others: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    orphaned_bytes: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong any more."""
        return self.found == self.mended

    def note(self, finding: Finding) -> Finding:
        self.found[finding.what] += 1
        self.mended[finding.what] += finding.mended
        if finding.what == "orphan_object":
            self.orphaned_bytes += finding.bytes
        return finding

    def summary(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "records": self.records,
            "younger": self.younger,
            "others": dict(self.others),
            "found": dict(self.found),
            "mended": {what: count for what, count in self.mended.items() if count},
            "orphaned_bytes": self.orphaned_bytes,
            "clean": self.is_clean,
        }
