"""Whether storage, records and counts say the same, and what to do where they do not.

findings   what can be wrong, and the report
expected   what belongs to a record
objects    from the objects to the records: orphans, lost records, wrong sizes, uploads of nobody
records    from the records to the objects and to the bytes counted
"""

from __future__ import annotations

from collections.abc import Iterator

import redis

from tasks.identifiers import check_name
from tasks.reconciliation.expected import Known
from tasks.reconciliation.findings import Finding, Report
from tasks.reconciliation.objects import Objects
from tasks.reconciliation.records import Records
from tasks.settings import Settings
from tasks.storage import Storage
from tasks.strays import UnderWay

__all__ = ["Finding", "Report", "reconcile"]


def reconcile(
    settings: Settings,
    client: redis.Redis,
    storage: Storage,
    report: Report,
    *,
    project: str | None = None,
    older_than_s: float = 86_400,
    delete_orphans: bool = False,
    recount: bool = False,
) -> Iterator[Finding]:
    """What is wrong, one after the other, of one `project` or of all; `report` says how much there was.

    Nothing is changed unless asked: `delete_orphans` removes objects and multipart uploads of nobody that are
    older than `older_than_s`, `recount` counts bytes anew. May be run while the service runs, and again.
    Errors come while iterating: StorageUnavailable, redis.RedisError; ValueError for a project that is none.
    """
    prefix = "projects/" if project is None else f"projects/{check_name(project)}/"
    known = Known(settings, client)
    objects = Objects(storage, known, UnderWay(settings, client), report, older_than_s=older_than_s)
    records = Records(settings, client, storage, known, report)
    for finding in objects.find(prefix, delete=delete_orphans):
        yield report.note(finding)
    for finding in records.find(project, recount=recount):
        yield report.note(finding)
