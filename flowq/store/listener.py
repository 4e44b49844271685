"""One connection that listens to sharded channels of one server, until it is lost or a channel has moved to another server."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from flowq.store.ending import end
from flowq.store.server import Server
from flowq.store.slots import slot_of


class ChannelMoved(Exception):
    """The server serves a channel's slot no more."""


class Listener:
    """Listens to the channels it is told of.

    Args:
        server: where they are.
        heard: called with the channel of each message, and of each subscription: what came before it was told to nobody.
    """

    def __init__(self, server: Server, heard: Callable[[str], None]) -> None:
        self.channels: set[str] = set()
        self._server = server
        self._heard = heard
        self._changed = asyncio.Event()
        self._listens: set[str] = set()
        # Unsubscriptions that the server has not answered yet.
        self._leaving: Counter[str] = Counter()

    def add(self, channel: str) -> None:
        """Listens to this channel too."""
        self.channels.add(channel)
        self._changed.set()

    def remove(self, channel: str) -> None:
        """And no more."""
        self.channels.discard(channel)
        self._changed.set()

    async def listen(self) -> None:
        """Listens until it is cancelled, or raises what ended it."""
        line = self._server.line()
        hearing: asyncio.Task[None] | None = None
        telling: asyncio.Task[None] | None = None
        try:
            await line.connect()
            telling = asyncio.create_task(self._tell(line))
            hearing = asyncio.create_task(self._hear(line))
            await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
            for task in (hearing, telling):
                if task.done():
                    task.result()
        finally:
            for task in (hearing, telling):
                await end(task)
                if task is not None and not task.cancelled():
                    task.exception()  # of two that end at once, one is told
            with contextlib.suppress(Exception):
                await line.disconnect()

    async def _tell(self, line: Any) -> None:
        """Tells the server what has changed: in one command what has one slot."""
        while True:
            self._changed.clear()
            gone, new = self._listens - self.channels, self.channels - self._listens
            self._listens = set(self.channels)
            self._leaving.update(gone)
            for verb, channels in (("SUNSUBSCRIBE", gone), ("SSUBSCRIBE", new)):
                by_slot: dict[int, list[str]] = {}
                for channel in channels:
                    by_slot.setdefault(slot_of(channel), []).append(channel)
                for same in by_slot.values():
                    await line.send_command(verb, *same)
            await self._changed.wait()

    async def _hear(self, line: Any) -> None:
        while True:
            message = await line.read_response()
            kind, channel = message[0], message[1].decode()
            if kind == b"sunsubscribe":
                if self._leaving[channel]:  # asked for; it may be listened to again by now
                    self._leaving[channel] -= 1
                    if not self._leaving[channel]:
                        del self._leaving[channel]
                elif channel in self._listens:
                    raise ChannelMoved(channel)
            if kind in (b"smessage", b"ssubscribe"):
                self._heard(channel)
