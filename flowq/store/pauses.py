"""Pausing and resuming, and what is paused now. A queue or a pipeline is paused in each partition, a flow in its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgspec

from flowq.model.names import parent_id
from flowq.model.pause import Pause, PauseKind
from flowq.store.damage import sound, text_of
from flowq.store.keys import PAUSED
from flowq.store.store import Store
from flowq.store.wants import queue_of
from flowq.store.wire import Head

_head = msgspec.msgpack.Decoder(Head)
_noted = msgspec.msgpack.Decoder(tuple[int, str])


class Pauses:
    """What is paused, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def pause(self, kind: PauseKind, name: str, by: str) -> str:
        """Pauses; `paused`, `unknown`, or the status letter of a flow that has ended. May be said again."""
        return await self._everywhere("pause", kind, name, by)

    async def resume(self, kind: PauseKind, name: str) -> str:
        """Resumes; `resumed`, `unknown`, or the status letter of a flow that has ended. May be said again."""
        return await self._everywhere("resume", kind, name)

    async def every(self) -> list[Pause]:
        """The queues and pipelines that are paused, the first one first."""
        found: dict[tuple[str, str], Pause] = {}
        asked = [("HGETALL", tag + PAUSED) for tag in self._store.partitions]
        for noted in await self._store.connection.readable(*asked):
            found |= {(pause.kind, pause.name): pause for pause in _pauses_in(noted or {})}
        return sorted(found.values(), key=lambda pause: (pause.since, pause.name))

    async def of_partition(self, tag: str) -> list[Pause]:
        """The queues and pipelines that are paused in one partition: in all of them, but for a moment."""
        return _pauses_in(await self._store.connection.command("HGETALL", tag + PAUSED))

    async def around(self, flow_id: str) -> list[Pause]:
        """What may keep a flow's stages from being claimed: flows above it that are paused, then queues and pipelines."""
        names: list[str] = []
        while above := parent_id(names[-1] if names else flow_id):
            names.append(above)
        return await self.of_flows(names) + await self.of_partition(self._store.keys.tag_of(flow_id))

    async def of_flows(self, flow_ids: Sequence[str]) -> list[Pause]:
        """Those of these flows that are paused, but for damaged ones."""
        keys = [self._store.keys.flow(flow_id) for flow_id in flow_ids]
        answers = await self._store.connection.readable(*(("HMGET", key, "m", "w") for key in keys))
        found: list[Pause] = []
        for flow_id, answer in zip(flow_ids, answers, strict=True):
            packed, data = answer or (None, None)
            head, noted = sound(_head, packed), sound(_noted, data)
            if head is not None and noted is not None and head.status == "p":
                found.append(Pause("flow", flow_id, *noted))
        return found

    async def _everywhere(self, script: str, kind: PauseKind, name: str, *arguments: str) -> str:
        tags = [self._store.keys.tag_of(name)] if kind == "flow" else self._store.partitions
        answer: list[bytes] = []
        for tag in tags:
            answer = await self._store.connection.run(script, tag, f"{kind}:{name}", *arguments)
            while answer[0] == b"retrying":
                await self._store.finish_retry(name)
                answer = await self._store.connection.run(script, tag, f"{kind}:{name}", *arguments)
        return (answer[1] if answer[0] == b"ended" else answer[0]).decode()


def unpaused(routes: Iterable[str], pauses: Iterable[Pause]) -> set[str]:
    """Those of these routes whose queue is not paused."""
    queues = {pause.name for pause in pauses if pause.kind == "queue"}
    return {route for route in routes if queue_of(route) not in queues}


def pause_of(kind: PauseKind, name: str, data: bytes) -> Pause:
    """What a script noted of a pause."""
    since, by = _noted.decode(data)
    return Pause(kind, name, since, by)


def _pauses_in(noted: Mapping[bytes, bytes]) -> list[Pause]:
    """What is damaged pauses nothing."""
    named = [(*text_of(what).partition(":"), data) for what, data in noted.items()]
    return [
        pause_of(cast("PauseKind", kind), name, data)
        for kind, _, name, data in named
        if kind in ("queue", "pipeline") and sound(_noted, data) is not None
    ]
