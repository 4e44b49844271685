"""One directory per host and user with local copies of artifacts, shared by all worker processes, within a byte budget.

Everything rests on `flock` and rename, so that a process that dies at any point leaves nothing to repair:
    <sha256>.mp4        a complete, verified copy; whoever uses it holds a shared lock on it
    <sha256>.mp4.part   being downloaded by whoever holds its exclusive lock; renamed to the above when verified
    once-<random>.mp4   a copy of an artifact without checksum, for one user, who deletes it
Eviction deletes only what it can lock exclusively: the kernel drops a dead user's locks by itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import BinaryIO, NamedTuple
from uuid import uuid4

from flowq.errors import InvalidValue
from flowq.model.artifact import Artifact

BUDGET_BYTES = 2 * 1024 * 1024 * 1024
# How often a process that waits for another one's download looks again; a blocking flock could not be cancelled.
_LOCK_POLL_SECONDS = 0.05

Fill = Callable[[BinaryIO], None]


class CachedFile(NamedTuple):
    """A local copy in use. Closing `lock` gives it back.

    Attributes:
        path: the file; read it only.
        lock: the open file that keeps it from being evicted.
        is_shared: whether others may use it as well; if not, it is deleted at the end.
    """

    path: Path
    lock: BinaryIO
    is_shared: bool

    def release(self) -> None:
        """Ends the use."""
        if not self.is_shared:
            with suppress(OSError):
                self.path.unlink()
        self.lock.close()


class LocalCache:
    """The cache. Safe for any number of threads and processes.

    Args:
        directory: where the copies are; None: the user's cache directory. Made with mode 0700.
        budget_bytes: what they may take together. Copies in use are never evicted, so it can be exceeded by those.
    """

    def __init__(self, directory: Path | None = None, budget_bytes: int = BUDGET_BYTES) -> None:
        self._wanted = directory
        self._opened: Path | None = None
        self._budget_bytes = budget_bytes

    def obtain(self, artifact: Artifact, fill: Fill, go_on: Callable[[], None]) -> CachedFile:
        """A local copy of the artifact, downloaded by `fill` unless some process of this host has done so.

        Args:
            artifact: checked by the caller; its checksum becomes a file name.
            fill: writes and verifies the bytes.
            go_on: called while waiting for another process; raises to stop.
        """
        directory = self._directory()
        suffix = _suffix_of(artifact.name)
        self._make_room(directory, max(artifact.size, 0))
        if not artifact.checksum:
            return _fetched_once(directory / f"once-{uuid4().hex}{suffix}", fill)
        entry = directory / f"{artifact.checksum}{suffix}"
        while True:
            go_on()
            if found := _in_use(entry, artifact.size):
                return found
            if copied := _downloaded(entry, fill):
                return copied
            sleep(_LOCK_POLL_SECONDS)

    def _directory(self) -> Path:
        if self._opened is None or not self._opened.is_dir():
            self._opened = _private_directory(self._wanted)
        return self._opened

    def _make_room(self, directory: Path, needed_bytes: int) -> None:
        """Deletes the copies that were used longest ago until `needed_bytes` more fit."""
        entries = sorted(_entries(directory), key=lambda entry: entry.used_at)
        total = sum(entry.size for entry in entries) + needed_bytes
        for entry in entries:
            if total <= self._budget_bytes:
                return
            if _evicted(entry.path):
                total -= entry.size


class _Entry(NamedTuple):
    path: Path
    size: int
    used_at: float


def _entries(directory: Path) -> Iterator[_Entry]:
    with os.scandir(directory) as found:
        for item in found:
            with suppress(FileNotFoundError):
                status = item.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield _Entry(Path(item.path), status.st_size, status.st_mtime)


def _evicted(path: Path) -> bool:
    with suppress(OSError), open(path, "rb", opener=_opened_without_links) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_still(file, path):
            path.unlink()
            return True
    return False


def _in_use(entry: Path, size: int) -> CachedFile | None:
    """The entry with a shared lock, or None when there is none (any more)."""
    try:
        file = os.fdopen(_opened_without_links(str(entry), os.O_RDONLY), "rb")
    except FileNotFoundError:
        return None
    # Blocks for a moment at most: exclusive locks on complete entries are held only to delete or rename them.
    fcntl.flock(file, fcntl.LOCK_SH)
    if not _is_still(file, entry):
        file.close()
        return None
    if 0 <= size != os.fstat(file.fileno()).st_size:  # somebody wrote to a shared copy
        entry.unlink(missing_ok=True)
        file.close()
        return None
    with suppress(OSError):
        os.utime(entry)
    return CachedFile(entry, file, is_shared=True)


def _downloaded(entry: Path, fill: Fill) -> CachedFile | None:
    """The entry, freshly made; None when another process downloads it, or has just done so: look again."""
    path = entry.with_name(entry.name + ".part")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    part = os.fdopen(descriptor, "r+b")
    try:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_still(part, path):
            raise BlockingIOError
    except BlockingIOError:
        part.close()
        return None
    try:
        if entry.exists():  # the other process finished between the caller's look and our lock
            raise FileExistsError
        fill(part)
        part.flush()
        os.fchmod(descriptor, 0o400)
        os.rename(path, entry)
    except BaseException as error:  # whatever ended it, Ctrl-C as well: half a file must not stay, nor its lock
        path.unlink(missing_ok=True)
        part.close()
        if isinstance(error, FileExistsError):
            return None
        raise
    # The change from exclusive to shared is not atomic: an eviction may slip in between.
    fcntl.flock(part, fcntl.LOCK_SH)
    if _is_still(part, entry):
        return CachedFile(entry, part, is_shared=True)
    part.close()
    return None


def _fetched_once(path: Path, fill: Fill) -> CachedFile:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    copy = CachedFile(path, os.fdopen(descriptor, "r+b"), is_shared=False)
    try:
        fcntl.flock(copy.lock, fcntl.LOCK_SH)
        fill(copy.lock)
        copy.lock.flush()
    except BaseException:  # the same for a copy of one's own
        copy.release()
        raise
    return copy


def _is_still(file: BinaryIO, path: Path) -> bool:
    """Whether the open, locked file is what stands at the path: it may have been deleted or renamed before the lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _opened_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _suffix_of(name: str) -> str:
    """The name's ending: some programs go by it."""
    found = re.search(r"\.[A-Za-z0-9]{1,10}$", name)
    return found.group().lower() if found else ""


def _private_directory(wanted: Path | None) -> Path:
    """The wanted directory, or the first usable default; never one that another user could write to.

    Raises:
        InvalidValue: the wanted one can't be used.
    """
    if wanted is not None:
        if _is_made_private(wanted):
            return wanted
        raise InvalidValue("artifact cache", str(wanted), "a directory of this user's own, writable")
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for candidate in (Path(caches, "flowq", "artifacts"), Path(tempfile.gettempdir(), f"flowq-artifacts-{os.geteuid()}")):
        if candidate.is_absolute() and _is_made_private(candidate):
            return candidate
    return Path(tempfile.mkdtemp(prefix="flowq-artifacts-"))


def _is_made_private(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return False
        if stat.S_IMODE(status.st_mode) != 0o700:
            directory.chmod(0o700)
        return os.access(directory, os.W_OK | os.X_OK)
    except OSError:
        return False
