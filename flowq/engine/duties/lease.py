"""Leases of an embedded worker: renewed from a thread, so that a stage which blocks the loop does not cost them.

A stage that holds the GIL longer than the lease stops this thread too; its work is then taken over, and what it still
writes is refused. `flowq worker` renews from another process and has no such limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from flowq.engine.duties.extending import UNKNOWN, PermitKeeper
from flowq.errors import FlowqError
from flowq.store.connection import Connection
from flowq.store.ending import end
from flowq.store.store import Store

log = logging.getLogger("flowq.engine")

LEASE_MS = 15_000
LEASE_MS_MAX = 3_600_000
# Without a renewal for this share of the lease a worker stops its stages, before anyone else may claim them.
SAFE_SHARE = 0.8
# More often than a late holder stays a mere suspect (scripts/overdue.lua), so that a jump of the server's clock costs nobody.
RENEWALS_PER_LEASE = 6
_END_SECONDS_MAX = 2.0


def now_awake() -> float:
    """Seconds by a clock that goes on while the machine sleeps, where the system has one: leases go on, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LeaseKeeper:
    """Renews one holder's lease in all partitions until told to stop.

    Args:
        url: the server.
        namespace: the namespace.
        holder: whose lease.
        lease_ms: how long each renewal lasts.
        on_lost: called, in the keeper's thread, when the lease can't be relied on any more.
        asked: tells, in the keeper's thread, how often the holder has asked for permits, which last as long as its lease.
    """

    def __init__(
        self, url: str, namespace: str, holder: str, lease_ms: int, on_lost: Callable[[str], None],
        asked: Callable[[], int] = lambda: UNKNOWN,
    ) -> None:  # fmt: skip
        self._url = url
        self._namespace = namespace
        self._holder = holder
        self._lease_ms = lease_ms
        self._on_lost = on_lost
        self._asked = asked
        self._is_stopping = False
        self._wake: Callable[[], object] | None = None
        self._thread = threading.Thread(target=self._run, name="flowq-lease", daemon=True)

    def start(self) -> None:
        """Begins; the first renewal is due after a sixth of the lease."""
        self._thread.start()

    def stop(self) -> None:
        """Ends without giving the lease back, and waits for the thread: one that outlives the interpreter crashes it."""
        self._is_stopping = True
        if self._wake is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_END_SECONDS_MAX)

    def _run(self) -> None:
        asyncio.run(self._renew_until_stopped())

    async def _renew_until_stopped(self) -> None:
        told = asyncio.Event()
        self._wake = partial(asyncio.get_running_loop().call_soon_threadsafe, told.set)
        if self._is_stopping:  # before there was anybody to wake
            return
        renewing, waiting = asyncio.create_task(self._renew()), asyncio.create_task(told.wait())
        await asyncio.wait([renewing, waiting], return_when=asyncio.FIRST_COMPLETED)
        for task in (renewing, waiting):
            await end(task)
        if not renewing.cancelled():
            renewing.result()

    async def _renew(self) -> None:
        interval = self._lease_ms / 1000 / RENEWALS_PER_LEASE
        connection = Connection(self._url, name="flowq:lease", size=2, patience=interval)
        store = Store(connection, self._namespace)
        permits = PermitKeeper(store, self._lease_ms, interval)
        is_open, renewed_at, safe_seconds = False, now_awake(), SAFE_SHARE * self._lease_ms / 1000
        try:
            while True:
                await asyncio.sleep(min(interval, max(0.05, renewed_at + safe_seconds - now_awake())))
                sent_at = now_awake()
                if sent_at - renewed_at >= self._lease_ms / 1000:
                    # Renewed, it would go on without the permits of limits that others have by now.
                    self._on_lost("this process stood still for longer than it lasts")
                    return
                try:
                    # By the clock too: a server that is stopped keeps a call waiting for longer than a short lease lasts.
                    async with asyncio.timeout(max(0.05, renewed_at + safe_seconds - sent_at)):
                        if not is_open:
                            await store.open()
                            is_open = True
                        expired = [
                            await store.renew(tag, self._lease_ms, [self._holder], patience=interval) for tag in store.partitions
                        ]
                except (FlowqError, TimeoutError) as error:
                    if now_awake() - renewed_at >= safe_seconds:
                        why = error.problem if isinstance(error, FlowqError) else "the server does not answer"
                        self._on_lost(f"it could not be renewed: {why}")
                        return
                    continue
                if any(expired):
                    self._on_lost("the server gave its stages to others")
                    return
                renewed_at = sent_at
                permits.extend({self._holder: self._asked()})
        finally:
            await permits.close()
            await connection.close()
