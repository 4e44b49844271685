"""What `upload` takes: paths, bytes, open files and iterables of bytes, all as chunks."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO, cast

from flowq.artifacts.keys import tidy_name
from flowq.artifacts.scratch import READ_BYTES, file_chunks
from flowq.artifacts.upload import Bytes
from flowq.errors import InvalidValue

Incoming = str | PathLike[str] | Bytes | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]


def name_of(source: Incoming) -> str:
    """The name for a source that was given none: the file's own, tidied, or "upload"."""
    if isinstance(source, str | PathLike):
        return tidy_name(Path(fspath(source)).name)
    name = getattr(source, "name", None)
    return tidy_name(Path(name).name) if isinstance(name, str) else "upload"


def chunks_of(source: object, name: str) -> Iterator[Bytes]:
    """The source's bytes; blocks while reading.

    Raises:
        ArtifactNotWritten: a path that leads to no readable regular file.
        InvalidValue: nothing that has bytes.
    """
    if isinstance(source, str | PathLike):
        return file_chunks(Path(cast("str | PathLike[str]", source)), name, follow_links=True)
    if isinstance(source, bytes | bytearray | memoryview):
        return iter((cast("Bytes", source),))
    if hasattr(source, "read"):
        return _read(cast("BinaryIO", source))
    if isinstance(source, Iterable):
        return iter(cast("Iterable[bytes]", source))
    raise InvalidValue("upload", source, "a path, bytes, a binary file, or an iterable of bytes")


def _read(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(READ_BYTES):
        if not isinstance(chunk, bytes | bytearray):  # pyright: ignore[reportUnnecessaryIsInstance] - a file opened as text
            raise InvalidValue("upload", file, "a file opened in binary mode")
        yield chunk
