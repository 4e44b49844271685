"""What a client works on: the store and the artifact storage that its settings lead to. Opened once, closed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import parse_qs, urlsplit

from flowq.engine.duties.every import run_every
from flowq.errors import DurabilityUnavailable, InvalidValue, ServerNotConfigured, StorageNotConfigured
from flowq.model.artifact import Artifact, LocalCopy
from flowq.model.duration import Duration
from flowq.settings import KeepSettings, S3Access, Settings
from flowq.store.connection import Connection
from flowq.store.ending import end
from flowq.store.probe import ServerInfo, refuse_unfit
from flowq.store.retentions import Retention
from flowq.store.store import Store
from flowq.store.wakeups import Wakeups

if TYPE_CHECKING:
    from flowq.artifacts.storage import Storage
    from flowq.embedded import Attachment

EMBEDDED = "embedded:"
# A worker goes on asking: its leases say when it is too late, not its patience.
WORKER_PATIENCE = 86_400.0
_UNARCHIVED_MS = 366 * 86_400_000
# A worker that ends waits so long for a server that does not answer; what it could not report is rescued when its lease is over.
LAST_WORDS_SECONDS = 5.0
_OPEN_SECONDS_MAX = 3.0
_ATTACH_SECONDS = 1.0
_ATTACH_SECONDS_MAX = 30.0
# Who ends meanwhile waits for the thread that attaches; what takes longer is tried again.
_ATTACH_AGAIN_SECONDS_MAX = 5.0


class StorageReader:
    """Reads artifacts from a backend's storage, which is opened at the first read."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def local(self, artifact: Artifact) -> LocalCopy:
        """See `Artifact.local`."""
        return self._storage(artifact).local(artifact)

    def open(self, artifact: Artifact) -> BinaryIO:
        """See `Artifact.open`."""
        return self._storage(artifact).open(artifact)

    def url(self, artifact: Artifact, expires: Duration) -> str:
        """See `Artifact.url`."""
        return self._storage(artifact).url(artifact, expires)

    def _storage(self, artifact: Artifact) -> Storage:
        if self._backend.storage is None:
            raise StorageNotConfigured(f"artifact {artifact.name!r} is to be read")
        return self._backend.storage


class Backend:
    """An open store and storage.

    Attributes:
        settings: with the URL that was found, and the location of artifacts once `storage` was asked for.
        access: how to reach S3; None: boto3's own environment.
        store: the store.
        wakeups: hints from the server.
        info: what the server said of itself.
        notice: a sentence for people about what stands in for what; may be empty.
        on_moved: called when `storage` is another one from now on, because the embedded servers were started again.
    """

    def __init__(
        self, settings: Settings, access: S3Access | None, attachment: Attachment | None, store: Store, info: ServerInfo
    ) -> None:
        self.settings = settings
        self.access = access
        self.store = store
        self.wakeups = Wakeups(store.connection, store.keys)
        self.info = info
        self.notice = attachment.notice if attachment else ""
        self.on_moved: Callable[[], None] = lambda: None
        self._attachment = attachment
        self._staying: asyncio.Task[None] | None = None
        self._storage: Storage | None = None
        self._has_opened_storage = False
        self._lock = threading.Lock()  # held by who attaches: this loop's threads, and those that stages and readers run in

    @property
    def storage(self) -> Storage | None:
        """Artifact storage; None: none is configured. Opened when first asked for: most commands never do.

        Blocks for 2 s where the embedded S3 server has to be started for it; see `reach_storage`.

        Raises:
            EmbeddedError: that server can't be used.
        """
        if not self._has_opened_storage:
            with self._lock:
                if not self._has_opened_storage:
                    self._storage = self._opened_storage()
                    self._has_opened_storage = True
        return self._storage

    async def reach_storage(self) -> Storage | None:
        """`storage`, without holding up the loop."""
        return self.storage if self._has_opened_storage else await asyncio.to_thread(lambda: self.storage)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        name: str,
        connections: int = 3,
        access: S3Access | None = None,
        patience: float = 10.0,
        with_storage: bool = True,
    ) -> Backend:
        """Finds the server, attaches to an embedded one, and refuses one that can't be trusted.

        Args:
            settings: what was configured; without a URL the project's own `.flowq/` is used, if there is one.
            name: how the connections are named on the server.
            connections: how many it may hold, beside one for wake-ups.
            access: how to reach S3, where it is known already.
            patience: for how many seconds a server that stops answering is asked again; opening itself waits 3 s at most.
            with_storage: whether to start an embedded S3 server now; False: when `storage` is first asked for.

        Raises:
            ServerNotConfigured, ServerError, EmbeddedError, InvalidValue.
        """
        attachment: Attachment | None = None
        directory = _embedded_directory(settings.url)
        try:
            if directory is not None:
                from flowq.embedded import attach

                with_s3 = with_storage and _may_be_s3(settings.artifacts)
                attachment = await asyncio.to_thread(attach, directory, s3=with_s3)
                access = access or attachment.s3
                settings = _replaced(settings, attachment.url, settings.artifacts or (attachment.artifacts if with_s3 else ""))
            connection = Connection(settings.url, name=name, size=connections, patience=_OPEN_SECONDS_MAX)
            try:
                info = await refuse_unfit(connection)
                store = Store(connection, settings.namespace, retention_of(settings.keep))
                await store.open()
                connection.patience = patience
                backend = cls(settings, access, attachment, store, info)
            except BaseException:  # also when it is cancelled: the connection would be nobody's
                await connection.close()
                raise
        except BaseException:  # the same for the keeper's servers, which live as long as somebody is attached
            if attachment is not None:
                attachment.close()
            raise
        if directory is not None:
            duty = _StayAttached(backend)
            backend._staying = asyncio.create_task(run_every(_ATTACH_SECONDS, duty, stop=asyncio.Event(), name="attaching"))
        await backend.wakeups.__aenter__()
        return backend

    def refuse_without_fsync(self) -> None:
        """Raises DurabilityUnavailable unless the server has written to disk what it acknowledges."""
        if not (self.info.aof and self.info.fsync == "always"):
            found = f"appendfsync {self.info.fsync or 'unknown'}" if self.info.aof else "appendonly no"
            raise DurabilityUnavailable(self.settings.url, found)

    async def stay_attached(self) -> None:
        """Attaches again to an embedded server whose keeper was killed. A duty of the backend itself, once a second."""
        if self._attachment is not None and self._attachment.is_lost and await asyncio.to_thread(self._attach_again):
            self.on_moved()

    async def close(self) -> None:
        """Lets go of everything; an embedded server ends some seconds after its last client."""
        await end(self._staying)
        await self.wakeups.__aexit__()
        await self.store.close()
        if self._storage is not None:
            await asyncio.to_thread(self._storage.close)
        if self._attachment is not None:
            self._attachment.close()

    def _opened_storage(self) -> Storage | None:
        held = self._attachment
        if held is not None and not held.with_s3 and _may_be_s3(self.settings.artifacts):
            self._attach_instead(held, with_s3=True)
        if not self.settings.artifacts:
            return None
        from flowq.artifacts import open_storage

        # Flow ids are unique in their namespace only, so each has a folder of its own and sweeps nobody else's.
        return open_storage(self.settings.artifacts, self.access, folder=self.settings.namespace)

    def _attach_again(self) -> bool:
        """Whether artifacts are kept elsewhere since."""
        with self._lock:
            lost = self._attachment
            if lost is None or not lost.is_lost:  # who needed the S3 server has attached already
                return False
            found = self._attach_instead(lost, with_s3=lost.with_s3, wait_seconds=_ATTACH_AGAIN_SECONDS_MAX)
            if (found.artifacts, found.s3) == (lost.artifacts, lost.s3):
                return False
            self._has_opened_storage = False  # it is opened anew when it is asked for
            return True

    def _attach_instead(self, held: Attachment, *, with_s3: bool, wait_seconds: float = _ATTACH_SECONDS_MAX) -> Attachment:
        from flowq.embedded import attach

        found = attach(held.directory, ephemeral=held.is_ephemeral, s3=with_s3, wait_seconds=wait_seconds)
        held.close()
        self._attachment, self.notice = found, found.notice
        if with_s3:
            if self.settings.artifacts in ("", held.artifacts):
                self.settings = _replaced(self.settings, self.settings.url, found.artifacts)
            self.access = found.s3
        return found


class _StayAttached:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def run_once(self) -> None:
        await self._backend.stay_attached()


def retention_of(keep: KeepSettings) -> Retention:
    """How long ended flows are kept, as the store takes it. What is to be archived waits a year for somebody who does."""
    lengths = keep.completed_ms, keep.failed_ms, keep.cancelled_ms
    return Retention(*lengths, by_itself_ms=_UNARCHIVED_MS) if keep.archive else Retention(*lengths)


def _embedded_directory(url: str) -> Path | None:
    """The data directory of the embedded server that the URL means; None: it means another server."""
    if url and not url.startswith(EMBEDDED):
        return None
    from flowq.embedded import find_project

    if not url:
        found = find_project(Path.cwd())
        if found is None:
            raise ServerNotConfigured
        return found
    parts = urlsplit(url)
    if parts.netloc or parse_qs(parts.query):
        raise InvalidValue("server URL", url, "embedded: or embedded:/path/to/.flowq")
    return Path(parts.path) if parts.path else find_project(Path.cwd()) or Path.cwd() / ".flowq"


def _may_be_s3(artifacts: str) -> bool:
    return not artifacts.startswith("file:")


def _replaced(settings: Settings, url: str, artifacts: str) -> Settings:
    return Settings(url=url, namespace=settings.namespace, artifacts=artifacts, worker=settings.worker, keep=settings.keep)
