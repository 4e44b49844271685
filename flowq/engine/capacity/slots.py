"""The queue slots of a host, shared by all worker processes on it: at most so many stages of a queue at once.

A slot is a byte of a file, taken by a record lock, so the kernel frees the slots of a process that is killed. Record
locks have two traps, both met here: they never conflict within one process, and closing *any* descriptor of a file
drops all locks of the process on it. Hence one open file per queue and process, however many `QueueSlots` there are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Mapping
from pathlib import Path

from flowq.errors import InvalidValue, SlotsUnusable
from flowq.model.names import check_name

SLOTS_MAX = 10_000


class QueueSlots:
    """Takes and gives back slots of queues; thread-safe and never blocking.

    Processes may be configured with different numbers of slots for a queue: each keeps to its own number, and the
    smaller ones share the lower slots of the larger.

    Args:
        directory: where the files are; made with mode 0700 if missing. All workers of the host that are to share slots
            name the same one, on a local disk.
        slots: how many slots each queue has.

    Raises:
        InvalidValue: a queue's name or number is out of range.
        SlotsUnusable: the directory is not ours alone, or can't be written.
    """

    def __init__(self, directory: Path, slots: Mapping[str, int]) -> None:
        for queue, count in slots.items():
            check_name(queue, "queue")
            if isinstance(count, bool) or not 1 <= count <= SLOTS_MAX:
                raise InvalidValue(f"slots of queue {queue!r}", count, f"a whole number from 1 to {SLOTS_MAX:,}")
        _make_private(directory)
        self._count = dict(slots)
        self._held: dict[str, list[int]] = {queue: [] for queue in slots}
        self._files: dict[str, _SlotFile] = {}
        try:
            for queue in slots:
                self._files[queue] = _SlotFile.of(directory / f"{queue}.slots")
        except SlotsUnusable:
            self.close()
            raise

    def take(self, queue: str, wanted: int) -> int:
        """Takes up to `wanted` slots and returns how many it got: 0 when all are in use."""
        self._check(queue, wanted)
        taken = self._files[queue].take(self._count[queue], wanted)
        self._held[queue] += taken
        return len(taken)

    def give_back(self, queue: str, count: int) -> None:
        """Gives back `count` of the slots that were taken."""
        self._check(queue, count)
        held = self._held[queue]
        if count > len(held):
            raise InvalidValue(f"slots of queue {queue!r} to give back", count, f"at most the {len(held)} that were taken")
        # The highest first: the lower ones are those that processes with fewer slots can use.
        held.sort()
        for _ in range(count):
            self._files[queue].give_back(held.pop())

    def count(self, queue: str) -> int:
        """How many slots the queue has in all; 0: it has no number of slots."""
        return self._count.get(queue, 0)

    def held(self, queue: str) -> int:
        """How many slots of the queue this object holds."""
        return len(self._held.get(queue, ()))

    def close(self) -> None:
        """Gives everything back."""
        for queue, file in self._files.items():
            for slot in self._held.pop(queue):
                file.give_back(slot)
            file.release()
        self._files.clear()

    def _check(self, queue: str, count: int) -> None:
        if queue not in self._count:
            raise InvalidValue("queue", queue, f"one of {', '.join(self._count)}")
        if queue not in self._files:
            raise InvalidValue("queue", queue, "slots that are open: these are closed")
        if count < 0:
            raise InvalidValue("slots", count, "0 or more")


class _SlotFile:
    """The one descriptor of a queue's file in this process, and who in this process holds which of its bytes."""

    _open: dict[Path, _SlotFile] = {}  # noqa: RUF012 - one registry for the process
    _lock = threading.Lock()

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users = 0
        self._taken: set[int] = set()
        self._descriptor = _opened(path)

    @classmethod
    def of(cls, path: Path) -> _SlotFile:
        path = path.parent.resolve() / path.name
        with cls._lock:
            file = cls._open.get(path) or cls._open.setdefault(path, cls(path))
            file._users += 1
            return file

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                del self._open[self._path]
                os.close(self._descriptor)

    def take(self, slots: int, wanted: int) -> list[int]:
        got: list[int] = []
        with self._lock:
            for slot in range(slots):
                if len(got) == wanted:
                    break
                if slot not in self._taken and self._locked(slot):
                    self._taken.add(slot)
                    got.append(slot)
        return got

    def give_back(self, slot: int) -> None:
        with self._lock:
            self._taken.discard(slot)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def _locked(self, slot: int) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, as the system likes
            return False
        except OSError as error:  # a file system without locks
            raise SlotsUnusable(str(self._path), str(error)) from error
        return True


def _opened(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SlotsUnusable(str(path), str(error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SlotsUnusable(str(path), "it is no regular file")
    return descriptor


def _make_private(directory: Path) -> None:
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700, parents=True)
        found = directory.lstat()
    except OSError as error:
        raise SlotsUnusable(str(directory), str(error)) from error
    if not stat.S_ISDIR(found.st_mode):
        raise SlotsUnusable(str(directory), "it is no directory")
    # Whoever may write there could hold all slots for ever, or swap the files.
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise SlotsUnusable(str(directory), "it is not private to this user")
