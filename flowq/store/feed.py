"""The events of flows, in order: one reader per process reads the streams and hands each event to who follows its flow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from flowq.model.event import Event
from flowq.model.limit import LimitWait
from flowq.model.names import worker_of
from flowq.store.connection import Connection
from flowq.store.ending import end
from flowq.store.events import WireEvent, events_of
from flowq.store.keys import EVENTS, Keys

log = logging.getLogger("flowq.store")

_BLOCK_MS = 2_000
_ENTRIES = 200
_PAUSE_SECONDS_MIN, _PAUSE_SECONDS_MAX = 0.05, 0.5
# Followers have no deadline of their own: they wait for the server as long as their program runs.
_PATIENCE_SECONDS = 86_400.0


class Feed:
    """Follows the event streams of all partitions, from its first follower on until it is closed."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._followers: dict[str, list[Callable[[WireEvent], None]]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def follow(self, flow_id: str, follower: Callable[[WireEvent], None]) -> Callable[[], None]:
        """Hands every event of the flow from now on to `follower`; returns what ends it."""
        self._followers.setdefault(flow_id, []).append(follower)
        # Events between this call and the reader's first positions would be lost without a trace.
        async with self._starting:
            if self._reader is None:
                positions = {tag + EVENTS: await self._last_position(tag) for tag in self._keys.tags}
                self._reader = asyncio.create_task(self._read(positions))

        def stop() -> None:
            followers = self._followers.get(flow_id, [])
            if follower in followers:
                followers.remove(follower)
            if not followers:
                self._followers.pop(flow_id, None)

        return stop

    async def past(self, flow_id: str, after_seq: int, since_ms: int) -> list[WireEvent]:
        """What the stream still holds of a flow's events after a number, oldest first; progress left out."""
        key = self._keys.tag_of(flow_id) + EVENTS
        found: list[WireEvent] = []
        start: str = str(max(0, since_ms))
        while True:
            entries = await self._connection.command("XRANGE", key, start, "+", "COUNT", _ENTRIES)
            for _, fields in entries:
                found += [event for event in _decoded(fields) if event.flow_id == flow_id and event.seq > after_seq]
            if len(entries) < _ENTRIES:
                return found
            start = "(" + entries[-1][0].decode()

    async def close(self) -> None:
        """Stops reading."""
        await end(self._reader)
        self._reader = None

    async def _last_position(self, tag: str) -> bytes:
        last = await self._connection.command("XREVRANGE", tag + EVENTS, "+", "-", "COUNT", 1)
        return last[0][0] if last else b"0-0"

    async def _read(self, positions: dict[str, bytes]) -> None:
        while True:
            answer = await self._news(positions)
            for key, entries in answer or ():
                for entry_id, fields in entries:
                    positions[key.decode()] = entry_id
                    for event in _decoded(fields):
                        for follower in list(self._followers.get(event.flow_id, ())):
                            follower(event)

    async def _news(self, positions: dict[str, bytes]) -> list[Any]:
        """All streams in one command, because each that waits keeps a connection for itself. Those of a cluster can't be read in
        one: they are asked at intervals, which grow while nothing comes."""
        if not self._connection.is_cluster:
            words = ("XREAD", "COUNT", _ENTRIES, "BLOCK", _BLOCK_MS, "STREAMS", *positions, *positions.values())
            return await self._connection.command(*words, patience=_PATIENCE_SECONDS) or []
        pause = _PAUSE_SECONDS_MIN
        while True:
            asked = [("XREAD", "COUNT", _ENTRIES, "STREAMS", key, position) for key, position in positions.items()]
            answers = await self._connection.commands(*asked, patience=_PATIENCE_SECONDS)
            if found := [stream for answer in answers for stream in answer or ()]:
                return found
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_SECONDS_MAX)


def named(event: WireEvent, names: Callable[[int], str]) -> Event:
    """The event as users see it; `names` gives the name of a stage by its index."""
    return Event(
        flow_id=event.flow_id,
        seq=event.seq,
        verb=event.verb,
        at=event.at,
        stage=None if event.stage < 0 else names(event.stage),
        attempt=event.attempt,
        progress=event.progress if event.progress >= 0 else None,
        note=_note(event),
        due_at=event.due_at or None,
    )


def _note(event: WireEvent) -> str:
    if event.verb == "progressed" and (wait := LimitWait.told_by(event.note)):
        return wait.sentence()
    return worker_of(event.note) if event.verb == "claimed" else event.note


def _decoded(fields: Any) -> list[WireEvent]:
    try:
        return events_of(fields[b"b"])
    except msgspec.DecodeError as error:
        log.warning("an entry of the event stream can't be read: %s", error)
        return []
