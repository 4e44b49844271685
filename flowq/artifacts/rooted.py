"""A directory tree that can't be left: every step is opened relative to the one before, and no link is followed.

Checking a path and then opening it would leave a gap in which a planted link wins; open directories leave none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

# Filesystems take 255 bytes per name; a flow id percent-encoded can have three times as many. No encoded name ends in "%~".
_NAME_BYTES_MAX = 250
_CUT_BYTES = 240
_CONTINUED = "%~"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A folder can be deleted as empty between its making and the first file in it.
_TRIES = 20


class Found(NamedTuple):
    """A regular file below the root.

    Attributes:
        key: its path relative to the root, as written.
        name: the last part of it.
        status: what the filesystem says.
    """

    key: str
    name: str
    status: os.stat_result


class Rooted:
    """The tree below `root`. Keys are checked by the caller."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def folder_of(self, key: str, *, create: bool = False) -> Generator[tuple[int, str]]:
        """The open directory that holds the key's file, and the file's name in it.

        Raises:
            FileNotFoundError: there is no such folder, and it was not to be made.
            OSError: a link or a file stands in the way.
        """
        *folders, name = _steps(key)
        descriptor = self._opened(folders, create)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def remove(self, key: str) -> None:
        """Deletes the file and the folders that it leaves empty; nothing when it is gone."""
        with suppress(FileNotFoundError):
            with self.folder_of(key) as (folder, name):
                os.unlink(name, dir_fd=folder)
            folders = _steps(key)[:-1]
            while folders:
                last = folders.pop()
                parent = self._opened(folders, create=False)
                try:
                    os.rmdir(last, dir_fd=parent)
                except OSError:  # not empty
                    return
                finally:
                    os.close(parent)

    def files(self) -> Iterator[Found]:
        """All regular files; what vanishes meanwhile is left out."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = f"{folder}{entry.name}"
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISDIR(status.st_mode):
                            waiting.append(f"{path}/")
                        elif stat.S_ISREG(status.st_mode):
                            yield Found(path.replace(f"{_CONTINUED}/", ""), entry.name, status)

    def path_of(self, key: str) -> Path:
        """The path for people and URLs; not for opening."""
        return self.root.joinpath(*_steps(key))

    def _opened(self, folders: list[str], create: bool) -> int:
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._walked(folders, create)
            except FileNotFoundError:
                if not create or not tries_left:
                    raise
        raise AssertionError("unreachable")

    def _walked(self, folders: list[str], create: bool) -> int:
        if create:
            self.root.mkdir(parents=True, exist_ok=True)
        # The root itself is the operator's word and may be a link.
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for folder in folders:
            parent = descriptor
            try:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=parent)
                        os.fsync(parent)
                descriptor = os.open(folder, _DIRECTORY, dir_fd=parent)
            finally:
                os.close(parent)
        return descriptor


def _steps(key: str) -> list[str]:
    """The key's parts as names that a filesystem takes: long ones go on in a folder below."""
    steps: list[str] = []
    for part in key.split("/"):
        encoded = part
        while len(encoded.encode()) > _NAME_BYTES_MAX:
            # Counted in characters of at most 4 bytes, so that none is cut in two.
            length = _CUT_BYTES if encoded.isascii() else _CUT_BYTES // 4
            steps.append(encoded[:length] + _CONTINUED)
            encoded = encoded[length:]
        steps.append(encoded)
    return steps
