"""Deletes what attempts left behind that never committed: crashed, refused, cancelled.

A duty of the engine. Only keys that parse as a stage's are ever touched; the rest of the bucket is somebody else's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import TypeVar

import msgspec

from flowq.artifacts.keys import FolderId, parse
from flowq.artifacts.storage import PendingUpload, Storage, StoredObject

T = TypeVar("T", StoredObject, PendingUpload)

GRACE_SECONDS = 3_600
_BATCH = 500

Committed = Callable[[Collection[FolderId]], AbstractSet[FolderId]]


class Swept(msgspec.Struct, frozen=True):
    """What a sweep did.

    Attributes:
        deleted: objects that were deleted.
        kept: objects of stages that were left: needed, or younger than the grace period.
        aborted_uploads: unfinished uploads that were ended.
    """

    deleted: int
    kept: int
    aborted_uploads: int


def sweep(
    storage: Storage, committed: Committed, grace_seconds: float = GRACE_SECONDS, *, clock: Callable[[], float] = time.time
) -> Swept:
    """Deletes the objects and unfinished uploads of attempts that can't commit any more. Blocks: run it in a thread.

    Args:
        storage: where.
        committed: of these attempts, returns those whose objects are needed: they committed, or hold their lease now.
            Called with at most 500 at a time, after they were listed: a token that is neither then, never commits.
        grace_seconds: objects younger than this are left alone; it covers clocks that differ and lists that lag.
        clock: seconds since the epoch.
    """
    before_ms = int((clock() - grace_seconds) * 1000)
    deleted = kept = aborted = 0
    for batch in _batches(storage.objects()):
        stale = _stale([found for found in batch if found.modified_at_ms <= before_ms], storage.prefix, committed)
        storage.delete([found.key for found in stale])
        deleted += len(stale)
        kept += sum(parse(found.key, storage.prefix) is not None for found in batch) - len(stale)
    for batch in _batches(storage.pending_uploads()):
        for upload in _stale([found for found in batch if found.started_at_ms <= before_ms], storage.prefix, committed):
            storage.abort_upload(upload)
            aborted += 1
    return Swept(deleted, kept, aborted)


def _stale(found: list[T], prefix: str, committed: Committed) -> list[T]:
    """Those whose attempt is known by its key and not needed by anybody."""
    owners = [(item, folder.id) for item in found if (folder := parse(item.key, prefix))]
    needed = committed({owner for _, owner in owners}) if owners else frozenset[FolderId]()
    return [item for item, owner in owners if owner not in needed]


def _batches(found: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(found)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
