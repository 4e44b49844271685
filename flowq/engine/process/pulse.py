"""A page of memory that a child process shares with its supervisor: is its loop alive, and which stage blocks it?

Writing costs no system call, so a child's loop ticks it freely, and reading works however stuck the child is. Clocks
are `time.monotonic`, which is one clock for all processes of a host (Linux and macOS).
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
import struct
import tempfile
import time

_SIZE = mmap.PAGESIZE
# One aligned 8-byte word each, so no reader sees half of one: the machine stores it in one go.
_TICK, _RUNNING, _DEADLINE, _SEQUENCE, _NAME, _FIRST, _BEGUN, _ASKED = 0, 8, 16, 24, 32, 1024, 2560, 2568
_NAME_BYTES_MAX = 512
_FIRST_BYTES_MAX = 1024
_RUNNING_MAX = 1_000_000
_READS_MAX = 5


class Pulse:
    """One side's view of the page. The supervisor calls `create` and passes `fd` on; the child calls `attach`.

    A child's page is never a file that others can open, and it can't be cut short: a child that shrank it would kill
    the supervisor with SIGBUS.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            self._page = mmap.mmap(fd, _SIZE)
        except OSError:  # it takes a descriptor of its own, and there may be no more
            os.close(fd)
            raise

    @classmethod
    def create(cls) -> Pulse:
        """A fresh page: ticked now, nothing running."""
        pulse = cls(_anonymous_file())
        pulse.beat(running=0, earliest_deadline=math.inf)
        return pulse

    @classmethod
    def attach(cls, fd: int) -> Pulse:
        """The page behind a descriptor that was passed on. The descriptor is closed: no stage shall find it."""
        pulse = cls(fd)
        pulse.close_fd()
        return pulse

    @property
    def fd(self) -> int:
        """The descriptor to pass to the child (`pass_fds`); -1 once closed."""
        return self._fd

    def close_fd(self) -> None:
        """Closes the descriptor; the page stays shared."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Lets go of the page."""
        self.close_fd()
        self._page.close()

    # --- the child's side

    def beat(self, *, running: int, earliest_deadline: float, first: bytes = b"", begun: int = 0, asked: int = 0) -> None:
        """Says that the loop turns.

        Args:
            running: how many stages run in this child.
            earliest_deadline: when the first of them must have ended, by `time.monotonic()`; inf: none has to.
            first: a description of that one, at most 1,024 bytes.
            begun: how many stages it has begun so far.
            asked: how often it has asked for permits so far, which last as long as its lease is renewed for them too.
        """
        first = first[:_FIRST_BYTES_MAX]
        struct.pack_into(f"H{len(first)}s", self._page, _FIRST, len(first), first)
        struct.pack_into("d", self._page, _BEGUN, float(begun))
        struct.pack_into("d", self._page, _ASKED, float(asked))
        struct.pack_into("d", self._page, _RUNNING, float(running))
        struct.pack_into("d", self._page, _DEADLINE, earliest_deadline)
        struct.pack_into("d", self._page, _TICK, time.monotonic())

    def enter(self, stage: str) -> None:
        """Says that the code of this stage executes now in the loop; `leave` when it yields."""
        name = stage.encode()[:_NAME_BYTES_MAX]
        sequence = struct.unpack_from("Q", self._page, _SEQUENCE)[0] | 1  # odd: being written
        struct.pack_into("Q", self._page, _SEQUENCE, sequence)
        struct.pack_into(f"H{len(name)}s", self._page, _NAME, len(name), name)
        struct.pack_into("Q", self._page, _SEQUENCE, sequence + 1)

    def leave(self) -> None:
        """Says that no stage's code executes in the loop."""
        struct.pack_into("H", self._page, _NAME, 0)

    # --- the supervisor's side

    def age(self) -> float:
        """Seconds since the loop last ticked; inf on a damaged page."""
        return max(0.0, time.monotonic() - self._word(_TICK, if_damaged=-math.inf))

    @property
    def running(self) -> int:
        """How many stages the child runs."""
        running = self._word(_RUNNING, if_damaged=0)
        return int(running) if 0 <= running <= _RUNNING_MAX else 0

    @property
    def begun(self) -> int:
        """How many stages the child has begun so far."""
        begun = self._word(_BEGUN, if_damaged=0)
        return int(begun) if 0 <= begun < 2**53 else 0

    @property
    def asked(self) -> int:
        """How often the child has asked for permits so far; -1 on a damaged page: it is not known."""
        asked = self._word(_ASKED, if_damaged=-1)
        return int(asked) if 0 <= asked < 2**53 else -1

    def overdue(self) -> float:
        """Seconds since the earliest deadline of its stages has passed; 0 before."""
        return max(0.0, time.monotonic() - self._word(_DEADLINE, if_damaged=math.inf))

    @property
    def first(self) -> bytes:
        """The description of the stage that must end first; empty: none was given. Read it when the child is dead."""
        length = min(struct.unpack_from("H", self._page, _FIRST)[0], _FIRST_BYTES_MAX)
        return self._page[_FIRST + 2 : _FIRST + 2 + length]

    @property
    def culprit(self) -> str:
        """The stage whose code executes in the loop; empty when none does. If the loop has not ticked for long, it is
        this one that blocks it."""
        name = b""
        for _ in range(_READS_MAX):
            before = struct.unpack_from("Q", self._page, _SEQUENCE)[0]
            length = min(struct.unpack_from("H", self._page, _NAME)[0], _NAME_BYTES_MAX)
            name = self._page[_NAME + 2 : _NAME + 2 + length]
            if before % 2 == 0 and before == struct.unpack_from("Q", self._page, _SEQUENCE)[0]:
                break  # else the child was writing; died it in the midst, the last read has to do
        return name.decode("utf-8", "replace")

    def _word(self, offset: int, *, if_damaged: float) -> float:
        # A stage may write through a wild pointer; NaN must not reach the supervisor's comparisons.
        word = struct.unpack_from("d", self._page, offset)[0]
        return if_damaged if math.isnan(word) else word


def _anonymous_file() -> int:
    if not hasattr(os, "memfd_create"):  # macOS
        with tempfile.TemporaryFile() as file:
            file.truncate(_SIZE)
            return os.dup(file.fileno())
    fd = os.memfd_create("flowq-pulse", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _SIZE)
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd
