"""The sweep: what no attempt can commit any more goes, whatever anybody may need stays."""

from __future__ import annotations

import time
from collections.abc import Collection

from flowq.artifacts import FolderId, Storage, Swept, stage_folder, sweep
from flowq.artifacts.upload import PART_BYTES

DEAD = FolderId("flow-1", "encode", "1-dead")
ALIVE = FolderId("flow-1", "encode", "2-alive")


def two_hours_later() -> float:
    return time.time() + 7_200


def only_alive(asked: Collection[FolderId]) -> set[FolderId]:
    return {ALIVE} & set(asked)


def put(storage: Storage, attempt: FolderId, name: str = "x.bin") -> str:
    return storage.put_bytes(stage_folder(*attempt), name, name.encode()).key


def keys(storage: Storage) -> set[str]:
    return {found.key for found in storage.objects()}


def test_what_was_never_committed_goes_and_what_was_stays(storage: Storage) -> None:
    dead, alive = put(storage, DEAD), put(storage, ALIVE)
    assert sweep(storage, only_alive, clock=two_hours_later) == Swept(deleted=1, kept=1, aborted_uploads=0)
    assert keys(storage) == {alive}
    assert dead not in keys(storage)
    assert sweep(storage, only_alive, clock=two_hours_later) == Swept(deleted=0, kept=1, aborted_uploads=0)


def test_nothing_younger_than_the_grace_period_is_touched(storage: Storage) -> None:
    dead = put(storage, DEAD)
    assert sweep(storage, only_alive) == Swept(deleted=0, kept=1, aborted_uploads=0)
    assert keys(storage) == {dead}


def test_keys_that_are_no_stages_are_never_touched(storage: Storage) -> None:
    foreign = {storage.put_bytes(folder, "x", b"1").key for folder in ("uploads/1", "imports", "a/b/c/d")}
    assert sweep(storage, lambda asked: set(), clock=two_hours_later) == Swept(0, 0, 0)
    assert keys(storage) == foreign


def test_unfinished_uploads_of_dead_attempts_are_ended(storage: Storage) -> None:
    for attempt in (DEAD, ALIVE):
        key = "/".join(part for part in (storage.prefix, stage_folder(*attempt), "large.bin") if part)
        storage.begin(key, "video/mp4").send(b"x" * PART_BYTES)
    assert sweep(storage, only_alive) == Swept(0, 0, 0)
    assert sweep(storage, only_alive, clock=two_hours_later) == Swept(deleted=0, kept=0, aborted_uploads=1)
    assert [upload.key.split("/")[-2] for upload in storage.pending_uploads()] == [ALIVE.token]


def test_attempts_are_asked_about_in_batches(directory_storage: Storage) -> None:
    for number in range(1_100):
        put(directory_storage, FolderId("flow", "encode", f"{number}-x"))
    asked: list[int] = []

    def remember(attempts: Collection[FolderId]) -> set[FolderId]:
        asked.append(len(attempts))
        return set()

    assert sweep(directory_storage, remember, clock=two_hours_later).deleted == 1_100
    assert max(asked) <= 500
    assert keys(directory_storage) == set()
