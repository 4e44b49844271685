"""`Artifact`: the reference to a stored object that stages hand each other instead of its bytes.

Knows no storage. Reading goes through the `ArtifactReader` that the engine binds for the time a stage runs, or that a
producer binds where it is used; `flowq.artifacts` implements it.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from flowq.errors import StorageNotConfigured
from flowq.model.duration import Duration


class LocalCopy(AbstractContextManager[Path], AbstractAsyncContextManager[Path], Protocol):
    """A path that is valid inside `with` or `async with`."""


class ArtifactReader(Protocol):
    """What `Artifact` needs of a storage."""

    def local(self, artifact: Artifact) -> LocalCopy: ...
    def open(self, artifact: Artifact) -> BinaryIO: ...
    def url(self, artifact: Artifact, expires: Duration) -> str: ...


bound_reader: ContextVar[ArtifactReader | None] = ContextVar("flowq_artifact_reader", default=None)


class Artifact(msgspec.Struct, frozen=True):
    """A stored object: a video, captions, a model, any bytes.

    Attributes:
        key: the object's key in the configured storage; `s3://bucket/key` for objects of other buckets.
        size: its length in bytes; -1 when it was brought in with `Artifact.existing` and never read.
        content_type: its media type.
        checksum: SHA-256 of its bytes in hex; empty when it was brought in with `Artifact.existing`.
    """

    key: str
    size: int = -1
    content_type: str = "application/octet-stream"
    checksum: str = ""

    @property
    def name(self) -> str:
        """The last part of the key: the file's name."""
        return self.key.rsplit("/", 1)[-1]

    @classmethod
    def existing(cls, key: str, *, content_type: str = "application/octet-stream") -> Artifact:
        """A reference to an object that is in the storage already: a key, or `s3://bucket/key`. Not checked until read."""
        return cls(key, content_type=content_type)

    def local(self) -> LocalCopy:
        """A local file with the bytes, checked against size and checksum: `with source.local() as path`.

        The file is shared on the host: read it, don't write to it.

        Raises:
            ArtifactMissing, ArtifactCorrupt, StorageUnreachable, StorageForbids.
        """
        return self._reader().local(self)

    def open(self) -> BinaryIO:
        """A seekable binary stream that reads ranges on demand: nothing is downloaded that is not read."""
        return self._reader().open(self)

    def url(self, expires: Duration = "1h") -> str:
        """A presigned URL that lets anybody read the object until it expires (at most 7 days, S3's own limit)."""
        return self._reader().url(self, expires)

    def _reader(self) -> ArtifactReader:
        reader = bound_reader.get()
        if reader is None:
            raise StorageNotConfigured(f"artifact {self.name!r} is to be read")
        return reader
