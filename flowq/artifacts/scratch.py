"""The local file behind `sink.path`: a program writes it, flowq checks it and reads it once.

The program is not trusted to leave a plain file: a link would publish any file of the host, a FIFO would block for ever.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flowq.errors import ArtifactNotWritten

READ_BYTES = 1024 * 1024


class Scratch:
    """A private directory with room for one file of the artifact's own name.

    Attributes:
        path: where the file is to be written; it does not exist yet.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder = Path(tempfile.mkdtemp(prefix="flowq-artifact-"))
        self.path = self._folder / name

    @property
    def size(self) -> int:
        """Bytes written so far; 0 before the file exists."""
        try:
            return self.path.lstat().st_size
        except OSError:
            return 0

    def chunks(self) -> Iterator[bytes]:
        """The file's bytes, 1 MiB at a time.

        Raises:
            ArtifactNotWritten: there is no file, or something else in its place, or it changed while it was read.
        """
        return file_chunks(self.path, self._name, follow_links=False)

    def remove(self) -> None:
        """Deletes the directory and all that a program left in it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def file_chunks(path: Path, name: str, *, follow_links: bool) -> Iterator[bytes]:
    """The bytes of a regular file, 1 MiB at a time.

    Args:
        path: the file.
        name: the artifact's name, for messages.
        follow_links: whether the last part of the path may be a symbolic link.

    Raises:
        ArtifactNotWritten: no such file, no regular file, not readable, or changed while it was read.
    """
    # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise ArtifactNotWritten(name, _why_not_opened(path, error)) from None
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise ArtifactNotWritten(name, f"{path} is {_kind(before.st_mode)}")
        while chunk := os.read(descriptor, READ_BYTES):
            yield chunk
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ArtifactNotWritten(name, f"{path} changed while it was uploaded: something still writes to it")
    finally:
        os.close(descriptor)


def _why_not_opened(path: Path, error: OSError) -> str:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return f"{path} does not exist"
    if stat.S_ISREG(mode):
        return f"{path} can't be read: {error.strerror}"
    return f"{path} is {_kind(mode)}"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "no regular file")
