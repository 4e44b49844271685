"""`NewArtifact` and its two sinks: how a stage writes an artifact. Visible when the block ends well, or never.

Writing begins with the first part, so a block that fails early has sent nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Protocol, TypeVar

import anyio

from flowq.artifacts.scratch import Scratch
from flowq.artifacts.upload import Bytes, Upload, Writing
from flowq.errors import ArtifactMisused, FlowqError
from flowq.model.artifact import Artifact

P = ParamSpec("P")
T = TypeVar("T")


class Publisher(Protocol):
    """What sinks need of a storage."""

    def begin(self, key: str, content_type: str) -> Upload: ...
    def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


class _Sink:
    """What both sinks share: the name, the choice between `write` and `path`, the finished artifact."""

    def __init__(self, storage: Publisher, key: str, content_type: str) -> None:
        self._storage = storage
        self._key = key
        self._name = key.rsplit("/", 1)[-1]
        self._content_type = content_type
        self._writing = Writing(self._name, storage.begin(key, content_type))
        self._scratch: Scratch | None = None
        self._artifact: Artifact | None = None
        self._is_over = False

    @property
    def path(self) -> Path:
        """A local file for a program to write; stored when the block ends. Its name is the artifact's.

        Raises:
            ArtifactMisused: `write` was used already, or the block is over.
        """
        self._refuse_when_over()
        if self._writing.parts.size:
            raise ArtifactMisused(self._name, "both write() and .path are used", "use one of them")
        self._scratch = self._scratch or Scratch(self._name)
        return self._scratch.path

    @property
    def size(self) -> int:
        """Bytes written so far; with `path`, the file's length."""
        if self._artifact:
            return self._artifact.size
        return self._scratch.size if self._scratch else self._writing.parts.size

    @property
    def stored(self) -> Artifact | None:
        """The stored artifact; None while it is not."""
        return self._artifact

    @property
    def artifact(self) -> Artifact:
        """The stored artifact: what the stage returns.

        Raises:
            ArtifactMisused: the block has not ended yet, or it failed.
        """
        if self._artifact is None:
            raise ArtifactMisused(self._name, "it is not stored yet", "use .artifact after the `with` block has ended")
        return self._artifact

    def _refuse_write(self) -> None:
        self._refuse_when_over()
        if self._scratch:
            raise ArtifactMisused(self._name, "both write() and .path are used", "use one of them")

    def _refuse_when_over(self) -> None:
        if self._is_over:
            raise ArtifactMisused(self._name, "its block has ended", "write inside the `with` block")

    def _finish(self) -> None:
        self._is_over = True
        try:
            if self._scratch:
                for chunk in self._scratch.chunks():
                    self._writing.write(chunk)
            checksum = self._writing.finish()
        except BaseException:  # whatever ended it, Ctrl-C as well: an upload left open costs money
            self._abort()
            raise
        self._remove_scratch()
        self._artifact = Artifact(self._key, self._writing.parts.size, self._content_type, checksum)

    def _abort(self) -> None:
        self._is_over = True
        self._remove_scratch()
        # The block's own error is the one to report; what an abort leaves behind, the sweep collects.
        with contextlib.suppress(FlowqError):
            self._writing.abort()

    def _remove_scratch(self) -> None:
        if self._scratch:
            self._scratch.remove()


class SyncSink(_Sink):
    """What `with new_artifact(name) as sink` gives."""

    def write(self, data: Bytes) -> int:
        """Appends bytes; blocks while a part of 8 MiB is sent. Returns their number.

        Raises:
            ArtifactMisused: `path` is used, the block is over, or an earlier write failed.
            StorageError: the storage failed.
        """
        self._refuse_write()
        return self._writing.write(data)

    def close(self, *, successful: bool) -> None:
        """Stores or discards what was written; `with` calls it."""
        if successful:
            self._finish()
        else:
            self._abort()


class AsyncSink(_Sink):
    """What `async with new_artifact(name) as sink` gives. For one task at a time."""

    async def write(self, data: Bytes) -> int:
        """Appends bytes; a full part of 8 MiB is sent from a thread. Returns their number.

        Raises:
            ArtifactMisused: `path` is used, the block is over, or an earlier write failed.
            StorageError: the storage failed.
        """
        self._refuse_write()
        try:
            for part in self._writing.parts.add(data):
                await self._storage.in_thread(self._writing.send, part)
        except BaseException:  # a cancellation too: it may have come before the thread began, and then the part is lost
            self._writing.spoil()
            raise
        return memoryview(data).nbytes

    async def aclose(self, *, successful: bool) -> None:
        """Stores or discards what was written; `async with` calls it."""
        try:
            if successful:
                await self._storage.in_thread(self._finish)
        finally:
            # Also when the cancellation arrives before the thread has begun: an upload left open costs money.
            if self._artifact is None:
                with anyio.CancelScope(shield=True):
                    await self._storage.in_thread(self._abort)


class NewArtifact:
    """An artifact that is about to be written: `with` for sync stages, `async with` for async ones. Used once.

    Leaving the block with an exception discards what was written.
    """

    def __init__(self, storage: Publisher, key: str, content_type: str) -> None:
        self._storage = storage
        self._key = key
        self._content_type = content_type
        self._sync_sink: SyncSink | None = None
        self._async_sink: AsyncSink | None = None

    @property
    def written(self) -> Artifact | None:
        """The artifact once it is stored; None before, and when writing it failed."""
        sink = self._sync_sink or self._async_sink
        return sink.stored if sink else None

    def __enter__(self) -> SyncSink:
        self._refuse_second_use()
        self._sync_sink = SyncSink(self._storage, self._key, self._content_type)
        return self._sync_sink

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._sync_sink:
            self._sync_sink.close(successful=error_type is None)

    async def __aenter__(self) -> AsyncSink:
        self._refuse_second_use()
        self._async_sink = AsyncSink(self._storage, self._key, self._content_type)
        return self._async_sink

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._async_sink:
            await self._async_sink.aclose(successful=error_type is None)

    def _refuse_second_use(self) -> None:
        if self._sync_sink or self._async_sink:
            name = self._key.rsplit("/", 1)[-1]
            raise ArtifactMisused(name, "it is written twice", "call new_artifact(…) again, with another name")
