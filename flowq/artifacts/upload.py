"""One object on its way into a storage: parts in, one visible object at the end, or nothing at all.

Backends implement `Upload`; sinks and uploads of files drive it through `Parts`, which holds the only buffer.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

from flowq.errors import ArtifactMisused

PART_BYTES = 8 * 1024 * 1024
# S3 takes 10,000 parts. Half of them small (40 GB), the rest larger (320 GB more), so that the common case stays light.
_SMALL_PARTS = 5_000
_LARGE_PART_BYTES = 64 * 1024 * 1024

Bytes = bytes | bytearray | memoryview


class Upload(ABC):
    """An upload that has begun. Not thread-safe; blocks. `send` any number of parts, then `finish` or `abort`."""

    @abstractmethod
    def send(self, part: Bytes) -> None:
        """Sends one whole part; the caller doesn't touch it again. It may still be under way when this returns."""

    @abstractmethod
    def finish(self, last: Bytes, checksum: str) -> None:
        """Sends the rest and makes the object visible under its key.

        Args:
            last: what is left; with no part before it, the whole object.
            checksum: SHA-256 of all bytes in hex.

        Raises:
            ArtifactNameTaken: another object is there. The same bytes there count as a reply that was lost.
        """

    @abstractmethod
    def abort(self) -> None:
        """Gives up: nothing becomes visible. Safe to call at any time, more than once, and after a failure."""


class Parts:
    """Cuts what is written into parts and counts and hashes it on the way.

    Attributes:
        size: bytes taken so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self._buffer = bytearray()
        self._sent = 0
        self._digest = hashlib.sha256()

    def add(self, data: Bytes) -> Iterator[bytearray]:
        """Takes data in; yields each part that became full. At most one part is held back."""
        rest = memoryview(data).cast("B")
        self.size += len(rest)
        while rest:
            limit = PART_BYTES if self._sent < _SMALL_PARTS else _LARGE_PART_BYTES
            room = limit - len(self._buffer)
            self._buffer += rest[:room]
            rest = rest[room:]
            if len(self._buffer) == limit:
                yield self._cut()

    def hash(self, part: Bytes) -> None:
        """Counts a part into the checksum: called where the part is sent, off the event loop."""
        self._digest.update(part)

    def last(self) -> bytearray:
        """The rest, which may be empty."""
        return self._cut()

    @property
    def checksum(self) -> str:
        """SHA-256 of all hashed parts in hex."""
        return self._digest.hexdigest()

    def _cut(self) -> bytearray:
        part, self._buffer = self._buffer, bytearray()
        self._sent += 1
        return part


class Writing:
    """An upload and its parts: the blocking half of every sink.

    The async forms call `part_full` on the loop and `send`, `finish` and `abort` in a thread.
    """

    def __init__(self, name: str, upload: Upload) -> None:
        self.parts = Parts()
        self._name = name
        self._upload = upload
        self._has_failed = False

    def write(self, data: Bytes) -> int:
        """Takes data in and sends what became full."""
        for part in self.parts.add(data):
            self.send(part)
        return memoryview(data).nbytes

    def send(self, part: Bytes) -> None:
        """Hashes and sends a full part."""
        self._refuse_when_spoilt()
        try:
            self.parts.hash(part)
            self._upload.send(part)
        except BaseException:  # whatever it was, the part is lost
            self.spoil()
            raise

    def spoil(self) -> None:
        """Notes that a part was lost: a caller that swallows the error must not publish an object with a hole."""
        self._has_failed = True

    def finish(self) -> str:
        """Sends the rest, publishes the object and returns its checksum."""
        self._refuse_when_spoilt()
        last = self.parts.last()
        self.parts.hash(last)
        self._upload.finish(last, self.parts.checksum)
        return self.parts.checksum

    def abort(self) -> None:
        """Makes sure that nothing becomes visible."""
        self._upload.abort()

    def _refuse_when_spoilt(self) -> None:
        if self._has_failed:
            raise ArtifactMisused(self._name, "an earlier write failed", "leave the block and write the artifact anew")
