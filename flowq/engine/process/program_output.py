"""What a program writes: cut into lines for a callback, and the end of it kept. Memory is bounded whatever it writes."""

from __future__ import annotations

from collections import deque

LINE_BYTES_MAX = 4_096


class Tail:
    """The last bytes of a stream."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, chunk: bytes) -> None:
        """Appends; drops from the front what is no longer needed."""
        self._chunks.append(chunk)
        self._size += len(chunk)
        while self._size - len(self._chunks[0]) >= self._bytes_max:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """The end of the stream as text; a character cut in two at its beginning is dropped, a broken one replaced."""
        kept = b"".join(self._chunks)
        if len(kept) > self._bytes_max:
            kept = kept[-self._bytes_max :]
            cut = next((at for at in range(min(4, len(kept))) if kept[at] & 0xC0 != 0x80), 0)
            kept = kept[cut:]
        return kept.decode("utf-8", "replace")


class LineSplitter:
    """Cuts chunks into lines at \\n and at \\r, because progress displays rewrite their line with \\r.

    Empty lines are left out. Of a line longer than 4,096 bytes only the beginning is kept.
    """

    def __init__(self) -> None:
        self._begun = b""

    def lines(self, chunk: bytes) -> list[str]:
        """The lines that this chunk completes."""
        first, *others = chunk.replace(b"\r", b"\n").split(b"\n")
        self._begun = (self._begun + first[:LINE_BYTES_MAX])[:LINE_BYTES_MAX]
        if not others:
            return []
        complete = [self._begun, *(line[:LINE_BYTES_MAX] for line in others[:-1])]
        self._begun = others[-1][:LINE_BYTES_MAX]
        return [line.decode("utf-8", "replace") for line in complete if line]

    def rest(self) -> list[str]:
        """The last line, when the stream ended without a line end."""
        rest, self._begun = self._begun, b""
        return [rest.decode("utf-8", "replace")] if rest else []
