"""Artifacts in a directory: for development, tests, and hosts that share a filesystem. The same contract as S3.

A file is written beside its place as `.<name>.<random>.part`, synced, and linked to its name: visible whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast
from uuid import uuid4

from flowq.artifacts.cache import LocalCache
from flowq.artifacts.keys import check_key, place_of
from flowq.artifacts.rooted import Rooted
from flowq.artifacts.scratch import READ_BYTES
from flowq.artifacts.storage import PendingUpload, Storage, StoredObject, check_size
from flowq.artifacts.upload import Bytes, Upload
from flowq.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactNameInvalid,
    ArtifactNameTaken,
    StorageForbids,
    StorageUnreachable,
)
from flowq.model.artifact import Artifact

_PART_NAME = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{32}\.part")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Filesystems without hard links say one of these.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class DirectoryStorage(Storage):
    """Artifacts below a root directory, made when the first is written. A key is a path relative to the root."""

    def __init__(self, root: Path, cache: LocalCache | None = None) -> None:
        super().__init__(f"file:{root}", "", cache)
        self._tree = Rooted(root)

    def begin(self, key: str, content_type: str) -> Upload:
        """See `Storage.begin`. A directory keeps no content type; the artifact does."""
        return _FileUpload(self._tree, key, self.location)

    def open(self, artifact: Artifact) -> BinaryIO:
        """See `Storage.open`."""
        self._refuse_when_closed()
        file = self._opened(artifact)
        try:
            check_size(artifact, _stored(artifact.key, os.fstat(file.fileno())))
        except BaseException:  # whatever it is: nobody gets this file, so nobody else would close it
            file.close()
            raise
        return file

    def stream(self, artifact: Artifact) -> Iterator[bytes]:
        """See `Storage.stream`."""
        self._refuse_when_closed()
        with self._opened(artifact) as file, _named_errors(self.location):
            while chunk := file.read(READ_BYTES):
                yield chunk

    def stat(self, artifact: Artifact) -> StoredObject:
        """See `Storage.stat`."""
        with self._opened(artifact) as file:
            return _stored(artifact.key, os.fstat(file.fileno()))

    def _url(self, artifact: Artifact, seconds: int) -> str:
        return self._tree.path_of(_own_key(artifact)).as_uri()

    def check(self) -> None:
        """See `Storage.check`."""
        self._refuse_when_closed()
        name = uuid4().hex
        artifact = self.put_bytes("flowq-probe", name, name.encode())
        if self.get_bytes(artifact) != name.encode():
            raise ArtifactCorrupt(artifact.key, "it was read differently from what was written")
        self.delete([artifact.key])

    def objects(self, folder_prefix: str = "") -> Iterator[StoredObject]:
        """See `Storage.objects`."""
        self._refuse_when_closed()
        with _named_errors(self.location):
            for found in self._tree.files():
                if found.key.startswith(folder_prefix) and not _PART_NAME.fullmatch(found.name):
                    yield _stored(found.key, found.status)

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`."""
        self._refuse_when_closed()
        with _named_errors(self.location):
            for key in [check_key(key) for key in keys]:
                self._tree.remove(key)

    def pending_uploads(self) -> Iterator[PendingUpload]:
        """See `Storage.pending_uploads`."""
        self._refuse_when_closed()
        with _named_errors(self.location):
            for found in self._tree.files():
                if part := _PART_NAME.fullmatch(found.name):
                    key = found.key[: -len(found.name)] + part["name"]
                    yield PendingUpload(key, found.key, found.status.st_mtime_ns // 1_000_000)

    def abort_upload(self, upload: PendingUpload) -> None:
        """See `Storage.abort_upload`."""
        if not _PART_NAME.fullmatch(upload.id.rpartition("/")[2]) or ".." in upload.id.split("/"):
            raise ArtifactNameInvalid(upload.id, "what pending_uploads() gave")
        with _named_errors(self.location):
            self._tree.remove(upload.id)

    def _opened(self, artifact: Artifact) -> BinaryIO:
        key = _own_key(artifact)
        try:
            with self._tree.folder_of(key) as (folder, name):
                file = _regular_file(folder, name)
        except (FileNotFoundError, NotADirectoryError):
            raise ArtifactMissing(key) from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ArtifactCorrupt(key, "a symbolic link stands in its place") from None
            raise _named(error, self.location) from None
        if file is None:
            raise ArtifactCorrupt(key, "no regular file stands in its place")
        return file


_TRIES = 50


class _FileUpload(Upload):
    """One file on its way; see the module's header."""

    def __init__(self, tree: Rooted, key: str, location: str) -> None:
        self._tree = tree
        self._key = key
        self._location = location
        folder, slash, name = key.rpartition("/")
        self._part_key = f"{folder}{slash}.{name}.{uuid4().hex}.part"
        self._file: BinaryIO | None = None

    def send(self, part: Bytes) -> None:
        with _named_errors(self._location):
            self._opened().write(part)

    def finish(self, last: Bytes, checksum: str) -> None:
        with _named_errors(self._location):
            file = self._opened()
            file.write(last)
            file.flush()
            # Before the name: a crash must not leave a name with bytes that never reached the disk.
            os.fsync(file.fileno())
            file.close()
            self._publish(checksum)

    def abort(self) -> None:
        if self._file:
            self._file.close()
            with suppress(OSError):
                self._tree.remove(self._part_key)
            self._file = None

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = os.fdopen(self._part_descriptor(), "wb")
        return self._file

    def _part_descriptor(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for tries_left in reversed(range(_TRIES)):
            try:
                with self._tree.folder_of(self._part_key, create=True) as (folder, name):
                    return os.open(name, flags, 0o600, dir_fd=folder)
            except FileNotFoundError:  # who deleted the folder's last file removed it between our two steps
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    def _publish(self, checksum: str) -> None:
        part_name = self._part_key.rpartition("/")[2]
        with self._tree.folder_of(self._key) as (folder, name):
            try:
                # A link fails where a rename would silently replace: the first writer of a name wins.
                os.link(part_name, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                if _checksum_of(folder, name) != checksum:
                    raise ArtifactNameTaken(self._key) from None
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if _checksum_of(folder, name) not in ("", checksum):
                    raise ArtifactNameTaken(self._key) from None
                os.rename(part_name, name, src_dir_fd=folder, dst_dir_fd=folder)
            with suppress(FileNotFoundError):
                os.unlink(part_name, dir_fd=folder)
            os.fsync(folder)


def _checksum_of(folder: int, name: str) -> str:
    """The SHA-256 of a file, or "" when there is none."""
    with suppress(OSError):
        if file := _regular_file(folder, name):
            with file:
                return hashlib.file_digest(cast("BufferedReader", file), "sha256").hexdigest()
    return ""


def _regular_file(folder: int, name: str) -> BinaryIO | None:
    """The open file, or None when something else stands there."""
    descriptor = os.open(name, _READ, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None


def _own_key(artifact: Artifact) -> str:
    place = place_of(artifact)
    if place.bucket:
        raise ArtifactNameInvalid(artifact.key, "a key in this directory: artifacts are kept in a directory here, not in S3")
    return place.key


def _stored(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key, status.st_mtime_ns // 1_000_000, status.st_size)


@contextmanager
def _named_errors(location: str) -> Generator[None]:
    """Turns what the filesystem says into errors of flowq."""
    try:
        yield
    except OSError as error:
        raise _named(error, location) from None


def _named(error: OSError, location: str) -> StorageForbids | StorageUnreachable:
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
        return StorageForbids(location, reason, "give this user read, write and search permission on the directory")
    return StorageUnreachable(
        location, reason, "name a directory that can be made there, on a mounted filesystem with free space"
    )
