"""`Storage`: where artifacts are kept. The part that S3 and directories share; the engine knows nothing else.

Blocking, thread-safe, shared by all stages of a process. What is async goes through threads of the storage's own limit, so
that slow transfers never use up the threads that stages run in.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from typing import BinaryIO, ParamSpec, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
import msgspec
from anyio.lowlevel import RunVar

from flowq.artifacts.cache import LocalCache
from flowq.artifacts.content_type import content_type_of
from flowq.artifacts.fetch import fetch
from flowq.artifacts.incoming import Incoming, chunks_of, name_of
from flowq.artifacts.keys import check_artifact_name, check_key, place_of
from flowq.artifacts.local import LocalFile
from flowq.artifacts.sink import NewArtifact
from flowq.artifacts.upload import Bytes, Upload
from flowq.errors import ArtifactCorrupt, StorageError
from flowq.model.artifact import Artifact
from flowq.model.duration import Duration, to_ms

P = ParamSpec("P")
T = TypeVar("T")

# S3 signs no longer: seven days.
_URL_MS_MAX = 7 * 86_400_000
_THREADS = 16


class StoredObject(msgspec.Struct, frozen=True):
    """An object in the storage.

    Attributes:
        key: its key, as in `Artifact.key`.
        modified_at_ms: when it was written, by the storage's clock.
        size: its length in bytes.
    """

    key: str
    modified_at_ms: int
    size: int


class PendingUpload(msgspec.Struct, frozen=True):
    """An upload that has begun and neither finished nor aborted.

    Attributes:
        key: where the object is to appear.
        id: what the backend calls the upload.
        started_at_ms: when it began, by the storage's clock; in a directory: when it was last written to.
    """

    key: str
    id: str
    started_at_ms: int


class Storage(ABC):
    """Artifacts at one location. Implements `ArtifactReader`, so it can be bound for `Artifact.local/open/url`.

    Attributes:
        location: where, as configured: `s3://bucket/prefix` or `file:/directory`.
        prefix: what all keys that flowq writes begin with; "" for none.
        cache: the host's local copies.
    """

    location: str
    prefix: str
    cache: LocalCache

    def __init__(self, location: str, prefix: str, cache: LocalCache | None = None) -> None:
        self.location = location
        self.prefix = prefix
        self.cache = cache or LocalCache()
        self._limiter: RunVar[anyio.CapacityLimiter] = RunVar(f"flowq_artifact_threads_{uuid4().hex}")
        self._is_closed = False

    # Writing

    def new(self, folder: str, name: str, *, content_type: str | None = None) -> NewArtifact:
        """An artifact to be written: `with` or `async with`.

        Args:
            folder: the folder under the prefix, such as `stage_folder(…)`.
            name: the file's name.
            content_type: its media type; None: what the name's suffix says.

        Raises:
            ArtifactNameInvalid: folder or name are out of form.
            InvalidValue: the content type is.
        """
        self._refuse_when_closed()
        key = "/".join(part for part in (self.prefix, check_key(folder), check_artifact_name(name)) if part)
        return NewArtifact(self, check_key(key), content_type_of(name, content_type))

    def put_bytes(self, folder: str, name: str, data: Bytes, content_type: str | None = None) -> Artifact:
        """Stores bytes that are in memory already."""
        with self.new(folder, name, content_type=content_type) as sink:
            sink.write(data)
        return sink.artifact

    async def upload(
        self, folder: str, source: Incoming, name: str | None = None, *, content_type: str | None = None
    ) -> Artifact:
        """Brings data in from outside.

        Args:
            folder: the folder under the prefix; one of its own for each upload.
            source: a path, bytes, an open binary file, or an iterable or async iterable of bytes.
            name: the artifact's name; None: the file's, with what names may not hold replaced by "-".
            content_type: as in `new`.

        Raises:
            ArtifactNotWritten: the path is no readable regular file.
        """
        name = name_of(source) if name is None else name
        async with self.new(folder, name, content_type=content_type) as sink:
            if isinstance(source, AsyncIterable):
                async for chunk in source:
                    await sink.write(chunk)
            else:
                chunks = chunks_of(source, name)
                while (chunk := await self.in_thread(next, chunks, None)) is not None:
                    await sink.write(chunk)
        return sink.artifact

    @abstractmethod
    def begin(self, key: str, content_type: str) -> Upload:
        """An upload to a checked key of this storage. Does no I/O before its first part."""

    # Reading

    def local(self, artifact: Artifact) -> LocalFile:
        """A verified local copy: `with storage.local(artifact) as path`. See `Artifact.local`."""
        self._refuse_when_closed()
        place_of(artifact)
        return LocalFile(self, artifact)

    def get_bytes(self, artifact: Artifact) -> bytes:
        """All bytes, verified. For small objects: they are held in memory.

        Raises:
            ArtifactMissing, ArtifactCorrupt, StorageError.
        """
        place_of(artifact)
        target = io.BytesIO()
        fetch(artifact, self.stream, target)
        return target.getvalue()

    def url(self, artifact: Artifact, expires: Duration = "1h") -> str:
        """A URL that lets anybody read the object until it expires. Asks nobody: the object may be missing.

        Raises:
            InvalidValue: `expires` is below 1 s or above 7 days.
        """
        self._refuse_when_closed()
        return self._url(artifact, to_ms(expires, "expires", least_ms=1_000, most_ms=_URL_MS_MAX) // 1000)

    @abstractmethod
    def open(self, artifact: Artifact) -> BinaryIO:
        """A seekable stream that reads ranges on demand. Checks the size, not the checksum."""

    @abstractmethod
    def stream(self, artifact: Artifact) -> Iterator[bytes]:
        """The object's bytes in chunks of at most 1 MiB, unverified."""

    @abstractmethod
    def stat(self, artifact: Artifact) -> StoredObject:
        """What the storage says about the object; its key is the artifact's. Raises ArtifactMissing."""

    @abstractmethod
    def _url(self, artifact: Artifact, seconds: int) -> str: ...

    # Housekeeping

    @abstractmethod
    def check(self) -> None:
        """Puts, gets, lists and deletes a small probe object: within seconds, also when nothing answers.

        Raises:
            BucketMissing, StorageForbids, StorageUnreachable.
        """

    @abstractmethod
    def objects(self, folder_prefix: str = "") -> Iterator[StoredObject]:
        """The objects whose keys begin with `<prefix>/<folder_prefix>`, in bounded memory; other than in S3 in no
        particular order. Never to decide what is correct: a listing may lag behind."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects under the prefix; those that are gone already count as deleted.

        Raises:
            ArtifactNameInvalid: a key outside the prefix; nothing of its batch is deleted.
        """

    @abstractmethod
    def pending_uploads(self) -> Iterator[PendingUpload]:
        """The uploads under the prefix that have not ended."""

    @abstractmethod
    def abort_upload(self, upload: PendingUpload) -> None:
        """Ends an upload; its parts are deleted. Nothing happens when it has ended already."""

    def close(self) -> None:
        """Gives connections and threads back. The storage can't be used afterwards."""
        self._is_closed = True

    async def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call in a thread, at most 16 at a time. Not interrupted when the caller is cancelled."""
        return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._threads())

    async def in_thread_until_cancelled(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for calls that stop by themselves soon after their caller was cancelled, which it is at once."""
        return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._threads(), abandon_on_cancel=True)

    def _threads(self) -> anyio.CapacityLimiter:
        # One per event loop: a limiter can't be shared by two, and a sync facade may run beside an async one.
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_THREADS)
            self._limiter.set(limiter)
        return limiter

    def _checked_own(self, key: str) -> str:
        check_key(key)
        if self.prefix and not key.startswith(f"{self.prefix}/"):
            raise StorageError(f"{key} is not under {self.location}")
        return key

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise StorageError(f"artifact storage {self.location} is closed", "open it again")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"


def check_size(artifact: Artifact, found: StoredObject) -> None:
    """Refuses an object whose length is not the one that was written: raises ArtifactCorrupt."""
    if 0 <= artifact.size != found.size:
        raise ArtifactCorrupt(artifact.key, f"it has {found.size:,} bytes of the {artifact.size:,} that were written")
