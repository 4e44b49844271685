"""`.local()`: an artifact as a path on this host, valid inside `with` or `async with`."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, Protocol, TypeVar

import anyio

from flowq.artifacts.cache import CachedFile, LocalCache
from flowq.artifacts.fetch import fetch
from flowq.errors import ArtifactMisused
from flowq.model.artifact import Artifact

P = ParamSpec("P")
T = TypeVar("T")


class Source(Protocol):
    """What a local copy needs of a storage."""

    @property
    def cache(self) -> LocalCache: ...
    def stream(self, artifact: Artifact) -> Iterator[bytes]: ...
    def in_thread_until_cancelled(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


class _Stopped(Exception):
    """Nobody waits for the download any more."""


class LocalFile(AbstractContextManager[Path], AbstractAsyncContextManager[Path]):
    """A local copy, fetched when the block begins and given back when it ends. Used once."""

    def __init__(self, source: Source, artifact: Artifact) -> None:
        self._source = source
        self._artifact = artifact
        self._file: CachedFile | None = None
        self._is_given_up = threading.Event()

    def __enter__(self) -> Path:
        return self._obtain()

    def __exit__(self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release()

    async def __aenter__(self) -> Path:
        try:
            return await self._source.in_thread_until_cancelled(self._obtain)
        except anyio.get_cancelled_exc_class():
            # The thread ends at its next chunk. Without this a stage that timed out would go on downloading.
            self._is_given_up.set()
            raise

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _obtain(self) -> Path:
        if self._file is not None:
            raise ArtifactMisused(self._artifact.name, "this local copy is in use already", "call .local() again")
        file = self._source.cache.obtain(
            self._artifact, lambda target: fetch(self._artifact, self._source.stream, target, self._go_on), self._go_on
        )
        self._file = file
        if self._is_given_up.is_set():
            self._release()
        return file.path

    def _release(self) -> None:
        if self._file:
            self._file.release()
            self._file = None

    def _go_on(self) -> None:
        if self._is_given_up.is_set():
            raise _Stopped
