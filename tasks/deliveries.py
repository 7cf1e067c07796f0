"""What an attempt leaves in storage: the files it made, the receipt for them, and its log."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from featherweight.job import Artifact
from featherweight.problem import Problem, problem
from featherweight.receipt import RECEIPT
from featherweight.report import FileDigest
from tasks import keys
from tasks.endurance import Endurance
from tasks.interruptible import interruptible
from tasks.joblog import JobLog
from tasks.lease import Lease
from tasks.receipts import Signer
from tasks.records import Claim
from tasks.sandbox.collect import OutputRefused, open_output
from tasks.scratch import Scratch
from tasks.settings import Settings
from tasks.settle import Settler
from tasks.storage import Storage, StorageUnavailable, TooLarge
from tasks.watch import Refused

__all__ = ["Deliveries"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FORMAT = re.compile(r"\.(tar\.gz|[^.]+)$")
_MEDIA_TYPE = {".json": "application/json", ".html": "text/html"}
_CHUNK = 1024 * 1024


class Deliveries:
    """Of a worker's jobs. `endurance` outlasts what is away; `settler` takes back what came too late."""

    def __init__(self, settings: Settings, storage: Storage, settler: Settler, endurance: Endurance) -> None:
        self._settings = settings
        self._storage = storage
        self._settler = settler
        self._endurance = endurance
        key = settings.receipt_key
        self._signer = None if key is None else Signer(key.get_secret_value())
        self._key_published = False

    def store_made(
        self,
        claim: Claim,
        scratch: Scratch,
        lease: Lease,
        names: Sequence[str],
        inputs: Callable[[], list[FileDigest]],
        *,
        owner: int | None,
    ) -> list[Artifact]:
        """Store the files that a runner of the user `owner` made, and the receipt for them where this service
        signs: for `inputs`, and with the digests made while storing. Refused."""
        found = sorted(set(names))
        if RECEIPT in found:
            raise Refused(problem("output_refused", f"{RECEIPT} is not a runner's to make"))
        artifacts = [self._store_output(claim, scratch, lease, name, owner) for name in found]
        if self._signer is not None:
            digests = self._endurance.wait_out(inputs, lease)
            artifacts.append(self._store_receipt(claim, self._signer, digests, artifacts, lease))
        return artifacts

    def store_kept(
        self,
        claim: Claim,
        scratch: Scratch,
        lease: Lease,
        names: Sequence[str],
        error: Problem,
        *,
        owner: int | None,
    ) -> tuple[Problem, list[Artifact]]:
        """Store what a job that failed with `error` has kept. A file that cannot be kept does not hide why:
        the problem says both."""
        artifacts = []
        for name in sorted(set(names)):
            try:
                artifacts.append(self._store_output(claim, scratch, lease, name, owner))
            except Refused as refused:
                detail = f"{error.detail}; {name} could not be kept: {refused.problem.detail}"
                error = error.model_copy(update={"detail": detail})
        return error, artifacts

    def store_log(self, claim: Claim, log: JobLog) -> None:
        """A storage that is away costs the log, and nothing else."""
        key = keys.log_key(claim.job.project, claim.job_id, claim.attempt)
        try:
            self._storage.put_bytes(key, log.getvalue(), media_type="text/plain; charset=utf-8")
        except StorageUnavailable as error:
            _log.warning("%s: its log is lost: %s", claim.job_id, error)

    def _store_receipt(
        self,
        claim: Claim,
        signer: Signer,
        inputs: list[FileDigest],
        artifacts: list[Artifact],
        lease: Lease,
    ) -> Artifact:
        receipt = signer.receipt(claim.job_id, claim.attempt, inputs, artifacts)
        content = receipt.model_dump_json(indent=2).encode()
        key = keys.artifact_key(claim.job.project, claim.job_id, claim.attempt, RECEIPT)

        def store() -> None:
            if not self._key_published:
                public = signer.public
                self._storage.put_json(keys.receipt_key_key(public.key_id), public.model_dump(mode="json"))
                self._key_published = True
            self._storage.put_bytes(key, content, media_type="application/json")

        self._storing(store, claim, lease)
        return Artifact(
            name=RECEIPT,
            format="json",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            media_type="application/json",
        )

    def _store_output(
        self, claim: Claim, scratch: Scratch, lease: Lease, name: str, owner: int | None
    ) -> Artifact:
        suffix = Path(name).suffix
        media_type = _MEDIA_TYPE.get(suffix, "application/octet-stream")
        key = keys.artifact_key(claim.job.project, claim.job_id, claim.attempt, name)
        limit = self._settings.max_model_bytes

        def store() -> tuple[int, str]:
            with open_output(scratch.path, f"work/out/{name}", max_bytes=limit, owner=owner) as file:
                chunks = _checked_chunks(file.read, lease.check_claim)
                return self._storage.put_stream(chunks, key, max_bytes=limit, media_type=media_type)

        try:
            size, sha256 = self._storing(store, claim, lease)
        except (OutputRefused, TooLarge) as error:
            raise Refused(problem("output_refused", str(error))) from error
        form = _FORMAT.search(name)
        return Artifact(
            name=name, format=form[1] if form else "bin", bytes=size, sha256=sha256, media_type=media_type
        )

    def _storing(self, store: Callable[[], _T], claim: Claim, lease: Lease) -> _T:
        """The answer of `store`. What a hanging call stored after all, once nobody wanted it any more, is
        taken back."""

        def take_back() -> None:
            self._settler.withdraw(claim.job_id, claim.attempt)

        return self._endurance.wait_out(
            lambda: interruptible(store, lease.check_claim, when_late=take_back), lease
        )


def _checked_chunks(read: Callable[[int], bytes], check: Callable[[], None]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        check()
        yield chunk
