"""`.open()` on S3: a seekable stream that asks for ranges, small ones where the reader jumps, large ones where it goes on."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

_FIRST_RANGE_BYTES = 128 * 1024
_RANGE_BYTES_MAX = 8 * 1024 * 1024

FetchRange = Callable[[int, int], bytes]


class RangeReader(io.RawIOBase):
    """An object of known size, read in ranges. Holds one range in memory, at most 8 MiB.

    Args:
        size: the object's length in bytes.
        fetch_range: returns the bytes from `start` up to `end`, not included.
    """

    def __init__(self, size: int, fetch_range: FetchRange) -> None:
        super().__init__()
        self._size = size
        self._fetch_range = fetch_range
        self._position = 0
        self._held = b""
        self._held_from = 0
        self._range_bytes = _FIRST_RANGE_BYTES

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves without reading; as in files, past the end is allowed and before the beginning is not."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}, expected 0, 1 or 2")
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}: before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fills the buffer from the held range, after asking for the next one if the position is outside."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        view = memoryview(buffer).cast("B")
        if not view or self._position >= self._size:
            return 0
        if not self._held_from <= self._position < self._held_from + len(self._held):
            self._hold(len(view))
        begin = self._position - self._held_from
        taken = min(len(view), len(self._held) - begin)
        view[:taken] = self._held[begin : begin + taken]
        self._position += taken
        return taken

    def _hold(self, wanted: int) -> None:
        goes_on = self._held and self._position == self._held_from + len(self._held)
        self._range_bytes = min(self._range_bytes * 4, _RANGE_BYTES_MAX) if goes_on else _FIRST_RANGE_BYTES
        length = min(max(self._range_bytes, wanted), _RANGE_BYTES_MAX)
        self._held = b""  # before the next one arrives: one range in memory, not two
        self._held = self._fetch_range(self._position, min(self._position + length, self._size))
        self._held_from = self._position
