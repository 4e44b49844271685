"""The queue slots of a host, shared by all worker processes on it: at most so many stages of a queue at once.

A slot is a byte of a file, taken by a record lock, so the kernel frees the slots of a process that is killed. Record
locks have two traps, both met here: they never conflict within one process, and closing *any* descriptor of a file
drops all locks of the process on it. Hence one open file per queue and process, however many `QueueSlots` there are.

The kernel knows no turns: who has just given a slot back would take it again, for as long as it has work. So there is one
byte more, the door: who lacks slots locks it and looks again soon, and others leave it one, but for their own turn. Both
end by themselves: a process that dies drops the door, and nothing is left for long to one that does not look.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from flowq.errors import InvalidValue, SlotsUnusable
from flowq.model.names import check_name

SLOTS_MAX = 10_000
P = ParamSpec("P")
R = TypeVar("R")

# How often who lacks slots looks again; for how long who has some takes all that it can; how long it leaves one then.
LOOK_SECONDS = 0.1
TURN_SECONDS = 1.0
PATIENCE_SECONDS = 3 * LOOK_SECONDS
_DOOR = SLOTS_MAX


def _one_at_a_time(method: Callable[Concatenate[QueueSlots, P], R]) -> Callable[Concatenate[QueueSlots, P], R]:
    @functools.wraps(method)
    def alone(self: QueueSlots, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:  # pyright: ignore[reportPrivateUsage]
            return method(self, *args, **kwargs)

    return alone


class QueueSlots:
    """Takes and gives back slots of queues; thread-safe and never blocking.

    Processes may be configured with different numbers of slots for a queue: each keeps to its own number, and the
    smaller ones share the lower slots of the larger.

    Args:
        directory: where the files are; made with mode 0700 if missing. All workers of the host that are to share slots
            name the same one, on a local disk.
        slots: how many slots each queue has.
        clock: tells the seconds.

    Raises:
        InvalidValue: a queue's name or number is out of range.
        SlotsUnusable: the directory is not ours alone, or can't be written.
    """

    def __init__(self, directory: Path, slots: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        for queue, count in slots.items():
            check_name(queue, "queue")
            if isinstance(count, bool) or not 1 <= count <= SLOTS_MAX:
                raise InvalidValue(f"slots of queue {queue!r}", count, f"a whole number from 1 to {SLOTS_MAX:,}")
        _make_private(directory)
        self._count = dict(slots)
        self._held: dict[str, list[int]] = {queue: [] for queue in slots}
        self._files: dict[str, _SlotFile] = {}
        self._clock = clock
        self._lacking: frozenset[str] = frozenset()
        self._turn_ends = dict.fromkeys(slots, 0.0)
        self._left_since: dict[str, float] = {}
        self._is_retired = False
        self._lock = threading.RLock()
        try:
            for queue in slots:
                self._files[queue] = _SlotFile.of(directory / f"{queue}.slots")
        except SlotsUnusable:
            self.close()
            raise

    @_one_at_a_time
    def take(self, queue: str, wanted: int) -> int:
        """Takes up to `wanted` slots and returns how many it got: 0 when all are in use, or the last one is left to others."""
        self._check(queue, wanted, is_open=not self._is_retired)
        file, now = self._files[queue], self._clock()
        is_own_turn = now < self._turn_ends[queue]
        is_patient = now - self._left_since.get(queue, now) < PATIENCE_SECONDS
        leaves = not is_own_turn and is_patient and file.is_awaited_by_others(self)
        taken, has_left = file.take(self._count[queue], wanted, leaves=leaves)
        if has_left:
            self._left_since.setdefault(queue, now)
        else:
            self._left_since.pop(queue, None)
        if taken and not leaves and not is_own_turn:
            self._turn_ends[queue] = now + TURN_SECONDS
        self._held[queue] += taken
        return len(taken)

    @_one_at_a_time
    def give_back(self, queue: str, count: int) -> None:
        """Gives back `count` of the slots that were taken."""
        self._check(queue, count)
        held = self._held[queue]
        if count > len(held):
            raise InvalidValue(f"slots of queue {queue!r} to give back", count, f"at most the {len(held)} that were taken")
        # The highest first, for the lower ones are those that processes with fewer slots can use: so they get them, if they wait.
        held.sort(reverse=self._files[queue].is_awaited_by_others(self))
        for _ in range(count):
            self._files[queue].give_back(held.pop())
        if self._is_retired and not held:
            self._let_go(queue)

    def count(self, queue: str) -> int:
        """How many slots the queue has in all; 0: it has no number of slots."""
        return self._count.get(queue, 0)

    def held(self, queue: str) -> int:
        """How many slots of the queue this object holds."""
        return len(self._held.get(queue, ()))

    @_one_at_a_time
    def lack(self, queues: Collection[str]) -> None:
        """Waits for slots of these queues, in which there were none, and of no others any more. Who holds some does not wait."""
        before, self._lacking = self._lacking, frozenset(queue for queue in queues if not self._held[queue])
        for queue in before - self._lacking:
            self._files[queue].leave_door(self)
        for queue in self._lacking - before:
            self._files[queue].wait_at_door(self)

    @_one_at_a_time
    def look(self, *, is_open: bool = True) -> bool:
        """Whether there is a slot of a queue where one was lacked, or left to others. Who has no room itself waits for none."""
        for queue in self._lacking:
            (self._files[queue].wait_at_door if is_open else self._files[queue].leave_door)(self)
        return is_open and any(self._is_free(queue) for queue in self._lacking.union(self._left_since))

    def _is_free(self, queue: str) -> bool:
        count = self.take(queue, 1)
        self.give_back(queue, count)
        return count > 0

    @_one_at_a_time
    def retire(self) -> None:
        """Takes no more. What is held, such as by functions that did not stop, is given back by who holds it."""
        self._is_retired = True
        self._lacking = frozenset()
        self._left_since = {}
        for queue in list(self._files):
            self._files[queue].leave_door(self)
            if not self._held[queue]:
                self._let_go(queue)

    @_one_at_a_time
    def close(self) -> None:
        """Gives everything back."""
        self.retire()
        for queue in list(self._files):
            for slot in self._held[queue]:
                self._files[queue].give_back(slot)
            self._let_go(queue)

    def _let_go(self, queue: str) -> None:
        self._held.pop(queue, None)
        self._files.pop(queue).release()

    def _check(self, queue: str, count: int, *, is_open: bool = True) -> None:
        if queue not in self._count:
            raise InvalidValue("queue", queue, f"one of {', '.join(self._count)}")
        if queue not in self._files or not is_open:
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
        self._at_door: object = None
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

    def take(self, slots: int, wanted: int, *, leaves: bool) -> tuple[list[int], bool]:
        """Which it got, and whether one is left free, as it was to be: the lowest, which all can use."""
        got: list[int] = []
        left = -1
        with self._lock:
            for slot in range(slots):
                if len(got) == wanted:
                    break
                if slot not in self._taken and self._locked(slot):
                    if leaves and left < 0:
                        left = slot
                        continue
                    self._taken.add(slot)
                    got.append(slot)
            if left >= 0:
                self._unlock(left)
        return got, left >= 0

    def give_back(self, slot: int) -> None:
        with self._lock:
            self._taken.discard(slot)
            self._unlock(slot)

    def is_awaited_by_others(self, asker: object) -> bool:
        with self._lock:
            if self._at_door is not None:
                return self._at_door is not asker
            # Shared, so that two who try it don't take each other for somebody at the door.
            is_empty = self._locked(_DOOR, fcntl.LOCK_SH)
            if is_empty:
                self._unlock(_DOOR)
            return not is_empty

    def wait_at_door(self, waiter: object) -> None:
        with self._lock:
            if self._at_door is None and self._locked(_DOOR):
                self._at_door = waiter

    def leave_door(self, waiter: object) -> None:
        with self._lock:
            if self._at_door is waiter:
                self._at_door = None
                self._unlock(_DOOR)

    def _unlock(self, slot: int) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, slot)

    def _locked(self, slot: int, how: int = fcntl.LOCK_EX) -> bool:
        try:
            fcntl.lockf(self._descriptor, how | fcntl.LOCK_NB, 1, slot)
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
