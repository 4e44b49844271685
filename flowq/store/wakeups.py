"""Hints from the server: wake-ups for parked holders, and flows that ended. One connection; a lost hint costs a poll."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from redis.exceptions import NoPermissionError

from flowq.errors import ServerForbids
from flowq.store.connection import Connection
from flowq.store.ending import end
from flowq.store.keys import ENDED_CHANNEL, WAKE_CHANNEL, Keys

log = logging.getLogger("flowq.store")

_PAUSE_SECONDS = 0.5
# Shorter than the connection may be silent.
_READ_SECONDS = 5.0


class Wakeups:
    """Listens to channels and calls back. Use it with `async with`."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._callbacks: dict[str, list[Callable[[], None]]] = {}
        self._wants: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._refusal: ServerForbids | None = None

    async def __aenter__(self) -> Wakeups:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    def on_wake(self, holder: str, callback: Callable[[], None]) -> None:
        """Calls back when a partition has work for this holder, or something to tell it."""
        for tag in self._keys.tags:
            self._add(tag + WAKE_CHANNEL + holder, callback)

    def forget(self, holder: str) -> None:
        """Undoes `on_wake`: the holder has ended."""
        for tag in self._keys.tags:
            self._remove(tag + WAKE_CHANNEL + holder)

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
            self._wants.put_nowait(("subscribe", channel))

    def _remove(self, channel: str) -> None:
        if self._callbacks.pop(channel, None) is not None:
            self._wants.put_nowait(("unsubscribe", channel))

    async def _listen(self) -> None:
        while True:
            pubsub = self._connection.subscription()
            try:
                if self._callbacks:
                    await pubsub.subscribe(*self._callbacks)
                await self._attend(pubsub)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # only hints are lost; the polls go on, and the next connection is tried
                log.debug("wake-ups interrupted: %s", error)
                if isinstance(error, NoPermissionError):
                    self._forbidden(ServerForbids(self._connection.url, str(error)))
                await asyncio.sleep(_PAUSE_SECONDS)
            finally:
                with contextlib.suppress(Exception):
                    await pubsub.aclose()

    async def _attend(self, pubsub: Any) -> None:
        # What was missed while there was no connection is found by asking.
        self._stir_all()
        wanted: asyncio.Task[tuple[str, str]] = asyncio.create_task(self._wants.get())
        heard: asyncio.Task[Any] | None = None
        try:
            while True:
                if heard is None and pubsub.subscribed:
                    heard = asyncio.create_task(pubsub.get_message(timeout=_READ_SECONDS))
                await asyncio.wait([task for task in (wanted, heard) if task], return_when=asyncio.FIRST_COMPLETED)
                if wanted.done():
                    verb, channel = wanted.result()
                    await (pubsub.subscribe(channel) if verb == "subscribe" else pubsub.unsubscribe(channel))
                    # What came between the caller's last look and this subscription was told to nobody.
                    for callback in list(self._callbacks.get(channel, ())):
                        callback()
                    wanted = asyncio.create_task(self._wants.get())
                if heard is not None and heard.done():
                    message, heard, self._refusal = heard.result(), None, None
                    if message is not None and message["type"] == "message":
                        for callback in list(self._callbacks.get(message["channel"].decode(), ())):
                            callback()
        finally:
            for task in (wanted, heard):
                if task is not None:
                    task.cancel()

    def _forbidden(self, refusal: ServerForbids) -> None:
        if self._refusal is None:
            log.warning("%s", refusal.problem)
        self._refusal = refusal
        self._stir_all()

    def _stir_all(self) -> None:
        for callbacks in list(self._callbacks.values()):
            for callback in list(callbacks):
                callback()
