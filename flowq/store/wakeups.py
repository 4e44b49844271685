"""Hints from the server: wake-ups for parked holders, and flows that ended. One connection a server; a lost hint costs a poll.

Channels are sharded: they have a slot like keys, and are heard where their partition is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial

from redis.exceptions import NoPermissionError

from flowq.errors import ServerForbids
from flowq.store.connection import Connection
from flowq.store.ending import end
from flowq.store.keys import ENDED_CHANNEL, WAKE_CHANNEL, Keys
from flowq.store.listener import Listener
from flowq.store.server import Server

log = logging.getLogger("flowq.store")

_PAUSE_SECONDS = 0.5


class Wakeups:
    """Listens to channels and calls back. Use it with `async with`."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._callbacks: dict[str, list[Callable[[], None]]] = {}
        # Channels to listen to from now on, or no more: each is dealt with in its turn.
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._listeners: dict[Server, Listener] = {}
        self._by_channel: dict[str, Listener] = {}
        self._dealing: asyncio.Task[None] | None = None
        self._listening: set[asyncio.Task[None]] = set()
        self._refusal: ServerForbids | None = None

    async def __aenter__(self) -> Wakeups:
        self._dealing = asyncio.create_task(self._deal())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._dealing, *self._listening):
            await end(task)

    def on_wake(self, holder: str, callback: Callable[[str], None]) -> None:
        """Calls back with the tag of each partition that has work for this holder, or something to tell it."""
        for tag in self._keys.tags:
            self._add(tag + WAKE_CHANNEL + holder, partial(callback, tag))

    def forget(self, holder: str) -> None:
        """Undoes `on_wake`: the holder has ended."""
        for tag in self._keys.tags:
            self._remove(tag + WAKE_CHANNEL + holder)

    def on_permit(self, limit: str, holder: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back when there is a permit of a limit that this holder got none of; returns what undoes it."""
        channel = self._keys.limit(limit) + WAKE_CHANNEL + holder
        self._add(channel, callback)
        return lambda: self._remove(channel)

    def on_end(self, flow_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back when the flow ends; returns what undoes it."""
        channel = self._keys.tag_of(flow_id) + ENDED_CHANNEL + flow_id
        self._add(channel, callback)

        def undo() -> None:
            callbacks = self._callbacks.get(channel, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._remove(channel)

        return undo

    def refuse_without_rights(self) -> None:
        """Raises ServerForbids where this user may not subscribe: each wait would last seconds too long."""
        if self._refusal is not None:
            raise self._refusal

    def _add(self, channel: str, callback: Callable[[], None]) -> None:
        known = self._callbacks.setdefault(channel, [])
        known.append(callback)
        if len(known) == 1:
            self._refusal = None  # asked anew: the right may have been granted
            self._changed.put_nowait(channel)

    def _remove(self, channel: str) -> None:
        if self._callbacks.pop(channel, None) is not None:
            self._changed.put_nowait(channel)

    async def _deal(self) -> None:
        """Hands each channel to who listens where it is."""
        while True:
            channel = await self._changed.get()
            listener = self._by_channel.get(channel)
            if channel not in self._callbacks:
                if listener is not None:
                    self._by_channel.pop(channel).remove(channel)
                continue
            if listener is not None:
                continue
            try:
                server = await self._connection.server_of(channel)
            except Exception as error:  # the polls go on; it is dealt with when the server is known again
                log.debug("wake-ups interrupted: %s", error)
                self._changed.put_nowait(channel)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            listener = self._listeners.get(server) or self._opened(server)
            self._by_channel[channel] = listener
            listener.add(channel)

    def _opened(self, server: Server) -> Listener:
        listener = self._listeners[server] = Listener(server, self._heard)
        task = asyncio.create_task(self._listen(server, listener))
        self._listening.add(task)
        task.add_done_callback(self._listening.discard)
        return listener

    async def _listen(self, server: Server, listener: Listener) -> None:
        try:
            await listener.listen()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # only hints are lost; the polls go on, and the next connection is tried
            log.debug("wake-ups interrupted: %s", error)
            if isinstance(error, NoPermissionError):
                self._forbidden(ServerForbids(self._connection.url, str(error)))
        await asyncio.sleep(_PAUSE_SECONDS)
        with contextlib.suppress(Exception):  # who asks next finds out
            await self._connection.refresh()
        del self._listeners[server]
        for channel in listener.channels:
            self._by_channel.pop(channel, None)
            self._changed.put_nowait(channel)

    def _heard(self, channel: str) -> None:
        self._refusal = None
        for callback in list(self._callbacks.get(channel, ())):
            callback()

    def _forbidden(self, refusal: ServerForbids) -> None:
        if self._refusal is None:
            log.warning("%s", refusal.problem)
        self._refusal = refusal
        self._stir_all()

    def _stir_all(self) -> None:
        for callbacks in list(self._callbacks.values()):
            for callback in list(callbacks):
                callback()
