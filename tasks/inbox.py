"""The inbox of a project: objects that other systems put into our bucket under ``inbox/<project>/``.

They are theirs: we read them and never change or remove them. What is to be worked with is adopted: copied
to a key of our own and judged as an upload is. Of one object (name and etag) comes one model and one data
set, however often and by however many it is adopted: their ids are made of project, name and etag.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, Literal, overload

import redis

from featherweight.problem import FieldError, problem
from featherweight.resources import InboxObject, Kind
from tasks import keys
from tasks.filekinds import KINDS, FileKind
from tasks.identifiers import derived_id
from tasks.intake import FileRefused, Intake, no_room, sniffed
from tasks.locks import Busy, KeepAlive, held
from tasks.records import DatasetRecord, ModelRecord
from tasks.recordstore import NotFound
from tasks.retention.removal import Removal
from tasks.settings import Settings
from tasks.sniffing import HEAD_BYTES
from tasks.storage import ObjectChanged, Storage, StoredObject, TooLarge
from tasks.usage import Accounts, StorageFull

__all__ = ["Inbox", "check_object_name"]

# Named here because inside the class `list` is a method.
_Objects = list[InboxObject]

# S3 takes keys of up to 1024 bytes, the prefix among them.
_NAME_BYTES = 800
_FILENAME_MAX = 255
_PAGE = 1000
# How long somebody waits who wants what another is just copying.
_WAIT_S = 50.0


class Inbox:
    """Any method may raise StorageUnavailable, and ValueError for a project that cannot be one. Safe to use
    from many threads."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        storage: Storage,
        *,
        intake: Intake | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        self._settings = settings
        self._redis = client
        self._storage = storage
        self._intake = intake or Intake(settings, client, storage)
        self._accounts = accounts or Accounts(client, settings)
        self._removal = Removal(settings, client, storage)

    def list(self, project: str, prefix: str = "", after: str | None = None, limit: int = _PAGE) -> _Objects:
        """At most `limit` objects whose name begins with `prefix`, in the storage's order, from behind the
        one named `after`. Names are as the storage has them: `adopt` refuses those that cannot be files'.

        FileRefused (invalid_request) for a prefix that no name begins with.
        """
        return list(itertools.islice(self._from(project, prefix, after, limit), limit))

    def scan(self, project: str, prefix: str = "") -> Iterator[InboxObject]:
        """All of them, as `list` has them. Errors also come while iterating."""
        return self._from(project, prefix, None, _PAGE)

    def stat(self, project: str, name: str) -> InboxObject:
        """The object as it is now; FileRefused with invalid_request, object_not_found."""
        return _shown(self._stat(project, name), keys.inbox_prefix(project))

    @overload
    def adopt(
        self, project: str, name: str, kind: Literal["model"], *, etag: str | None = None
    ) -> ModelRecord: ...
    @overload
    def adopt(
        self, project: str, name: str, kind: Literal["dataset"], *, etag: str | None = None
    ) -> DatasetRecord: ...
    @overload
    def adopt(
        self, project: str, name: str, kind: Kind, *, etag: str | None = None
    ) -> ModelRecord | DatasetRecord: ...
    def adopt(
        self, project: str, name: str, kind: Kind, *, etag: str | None = None
    ) -> ModelRecord | DatasetRecord:
        """The model or data set of an object: the one made of it before, as long as it is stored, or a new
        one. With `etag` only of the object that has it.

        FileRefused with invalid_request, object_not_found, object_changed, object_too_large,
        unknown_file_type, storage_quota_exceeded, overloaded and the gate's codes; redis.RedisError. Nothing
        is kept then.
        """
        found = self._stat(project, name)
        if etag is not None and etag != found.etag:
            raise _changed(name)
        wanted: FileKind[Any] = KINDS[kind]
        resource_id = derived_id(kind, "inbox", project, name, found.etag)
        with suppress(NotFound):
            return self._known(wanted, project, resource_id)
        try:
            with held(self._redis, f"adopt:{resource_id}", wait_s=_WAIT_S) as keep_alive:
                # Made while this one waited for its turn.
                with suppress(NotFound):
                    return self._known(wanted, project, resource_id)
                return self._adopted(wanted, project, resource_id, name, found, keep_alive)
        except Busy:
            raise FileRefused(problem("overloaded", "the object is still being copied")) from None

    # Inside

    def _known(self, kind: FileKind[Any], project: str, resource_id: str) -> ModelRecord | DatasetRecord:
        record: ModelRecord | DatasetRecord = self._intake.records(kind).get(project, resource_id)
        return record

    def _stat(self, project: str, name: str) -> StoredObject:
        check_object_name(name)
        try:
            return self._storage.stat(keys.inbox_prefix(project) + name)
        except FileNotFoundError:
            raise _missing(name) from None

    def _adopted(
        self,
        kind: FileKind[Any],
        project: str,
        resource_id: str,
        name: str,
        found: StoredObject,
        keep_alive: KeepAlive,
    ) -> ModelRecord | DatasetRecord:
        self._check_size(kind, project, found.size)
        head = self._head(name, found)
        sniffed(kind.name, head)
        leftovers = self._intake.leftovers
        leftovers.sweep()
        key = kind.key(project, resource_id)
        # What was made of the object before may have been removed, but for its bytes.
        self._removal.clear(kind.name, project, resource_id)
        # Should this process be lost while it copies.
        leftovers.expect(key)
        try:
            size, sha256 = self._copied(kind, name, found, key, keep_alive)
            leftovers.reclaim(key)
            record: ModelRecord | DatasetRecord = self._intake.adopt(
                kind,
                project,
                resource_id,
                filename=PurePosixPath(name).name,
                head=head,
                size=size,
                sha256=sha256,
            )
        except Exception:
            leftovers.discard(key)
            raise
        return record

    def _check_size(self, kind: FileKind[Any], project: str, size: int) -> None:
        limit = kind.max_bytes(self._settings)
        if size > limit:
            raise _too_large(kind.name, limit)
        if not size:
            raise _refused("unknown_file_type", "the object is empty")
        try:
            self._accounts.check_room(project, size)
        except StorageFull as error:
            raise no_room(error) from None

    def _head(self, name: str, found: StoredObject) -> bytes:
        try:
            return self._storage.read(found.key, length=HEAD_BYTES)
        except FileNotFoundError:
            raise _missing(name) from None

    def _copied(
        self, kind: FileKind[Any], name: str, found: StoredObject, key: str, keep_alive: KeepAlive
    ) -> tuple[int, str]:
        """Size and sha256 of the copy, which is whole and of one state of the object."""
        limit = kind.max_bytes(self._settings)
        try:
            chunks = _watched(self._storage.stream(found.key, etag=found.etag), keep_alive)
            with self._intake.leftovers.sending(key, self._settings.upload_expiry_s):
                size, sha256 = self._storage.put_stream(chunks, key, max_bytes=limit)
            after = self._storage.stat(found.key)
        except ObjectChanged:
            raise _changed(name) from None
        except FileNotFoundError:
            raise _missing(name) from None
        except TooLarge:
            raise _too_large(kind.name, limit) from None
        # Not every storage keeps to one state of an object that is overwritten while it is read.
        if (after.etag, size) != (found.etag, found.size):
            raise _changed(name)
        return size, sha256

    def _from(self, project: str, prefix: str, after: str | None, page_size: int) -> Iterator[InboxObject]:
        root = keys.inbox_prefix(project)
        _check_path(prefix, "/prefix")
        for found in self._objects(root, prefix, after, page_size):
            # Some programs store an empty object for a folder.
            if not found.key.endswith("/"):
                yield _shown(found, root)

    def _objects(self, root: str, prefix: str, after: str | None, page_size: int) -> Iterator[StoredObject]:
        page_size = max(1, min(page_size, _PAGE))
        if after is None:
            return self._storage.list_objects(root + prefix, page_size=page_size)
        _check_path(after, "/after")
        last = root + after
        # SeaweedFS passes over the objects below "a/" when asked for what comes after an object "a".
        if any(self._storage.list_objects(f"{last}/", page_size=1)) and self._storage.exists(last):
            everything = self._storage.list_objects(root + prefix)
            return itertools.islice(itertools.dropwhile(lambda found: found.key != last, everything), 1, None)
        return self._storage.list_objects(root + prefix, after=last, page_size=page_size)


def check_object_name(name: str) -> None:
    """FileRefused (invalid_request) for a name that `adopt` does not take: that of a file in folders, with
    printable characters and "/" between, is one."""
    _check_path(name, "/name")
    parts = name.split("/")
    if not all(parts):
        raise _bad_name("/name", "an object's name has no empty parts and does not begin or end with '/'")
    if len(parts[-1]) > _FILENAME_MAX:
        raise _bad_name("/name", f"the last part of an object's name has at most {_FILENAME_MAX} characters")


def _check_path(path: str, pointer: str) -> None:
    if not path.isprintable() or "\\" in path:
        raise _bad_name(pointer, "names in the inbox are of printable characters other than '\\'")
    if len(path.encode("utf-8", "surrogatepass")) > _NAME_BYTES:
        raise _bad_name(pointer, f"names in the inbox have at most {_NAME_BYTES} bytes")
    if path.startswith("/") or {".", ".."} & set(path.split("/")):
        raise _bad_name(pointer, "names in the inbox begin with no '/' and have no part '.' or '..'")


def _shown(found: StoredObject, root: str) -> InboxObject:
    return InboxObject(
        name=found.key.removeprefix(root), bytes=found.size, etag=found.etag, modified=found.modified
    )


def _watched(chunks: Iterator[bytes], keep_alive: Callable[[], None]) -> Iterator[bytes]:
    for chunk in chunks:
        keep_alive()
        yield chunk


def _missing(name: str) -> FileRefused:
    return _refused("object_not_found", f"there is no object {name!r} in the project's inbox")


def _changed(name: str) -> FileRefused:
    return _refused("object_changed", f"the object {name!r} is another than the one that was asked for")


def _too_large(kind: str, limit: int) -> FileRefused:
    return _refused(
        "object_too_large", f"a {'data set' if kind == 'dataset' else kind} may have {limit} bytes"
    )


def _bad_name(pointer: str, detail: str) -> FileRefused:
    return _refused("invalid_request", detail, pointer)


def _refused(code: str, detail: str, pointer: str = "/name") -> FileRefused:
    return FileRefused(problem(code, detail, errors=[FieldError(pointer=pointer, code=code, detail=detail)]))
