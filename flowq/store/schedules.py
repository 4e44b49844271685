"""Schedules in the store: each in the partition of its id, with what became of its latest firing, and when the next is due.

Who runs one by hand asks for a firing of its own beside the timetable, `>id@moment`, however many there are. What became of the
latest of these stands apart, under `>id`: the timetable goes by its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from flowq.model.schedule import Firing, Schedule
from flowq.store.keys import FIRED, FIRINGS, SCHEDULES
from flowq.store.store import Store
from flowq.store.views import Views

_PAGE = 100
# Before the id of a schedule, where it is about firings by hand: no id begins so.
_BY_HAND = ">"
# Instead of that, where it was called off. It stands for longer than a worker takes to make a flow.
_CALLED_OFF = "<"
_CALLED_OFF_MS = 60_000

_pack = msgspec.msgpack.Encoder().encode
_schedule = msgspec.msgpack.Decoder(Schedule)
_firing = msgspec.msgpack.Decoder(Firing)


class Due(msgspec.Struct, frozen=True):
    """A firing whose time has come.

    Attributes:
        schedule: what fires.
        latest: what became of the timetable's firing before.
        at: when it was due, milliseconds since 1970.
        member: its name among those that are due.
    """

    schedule: Schedule
    latest: Firing
    at: int
    member: str

    @property
    def is_by_hand(self) -> bool:
        """Whether somebody asked for it beside the timetable."""
        return self.member.startswith(_BY_HAND)

    @property
    def is_called_off(self) -> bool:
        """Whether somebody asked for it and then called it off: a flow that was made of it nevertheless is to be cancelled."""
        return self.member.startswith(_CALLED_OFF)

    @property
    def flow_id(self) -> str:
        """The id of its flow, where somebody asked for it."""
        return self.member.removeprefix(_BY_HAND).removeprefix(_CALLED_OFF)


class Schedules:
    """The schedules of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, schedule_id: str) -> Schedule | None:
        """A schedule; None: there is none of this id."""
        data = await self._store.connection.command("HGET", self._tag(schedule_id) + SCHEDULES, schedule_id)
        return None if data is None else _schedule.decode(data)

    async def write(self, known: Schedule | None, schedule: Schedule, next_at: int) -> bool:
        """Puts a schedule in the place of the one that is known to be there; False: there is another one by now.

        Args:
            known: what is there; None: nothing.
            schedule: what shall be.
            next_at: when it fires next; 0: it is paused; -1: as before.
        """
        was = b"" if known is None else _pack(known)
        tag = self._tag(schedule.id)
        return await self._store.connection.run("schedule", tag, schedule.id, was, _pack(schedule), next_at) == b"written"

    async def remove(self, known: Schedule) -> bool:
        """Removes a schedule, and what was asked for of it; False: there is another one of this id by now."""
        tag = self._tag(known.id)
        if await self._store.connection.run("schedule", tag, known.id, _pack(known), b"", 0) != b"written":
            return False
        # What is asked for after this comes to nothing as soon as a worker looks at it.
        asked_for: list[bytes] = []
        async for page in self._pages(tag, await Views(self._store).now()):
            asked_for += [member for member, _ in page if member.decode().rpartition("@")[0] == _BY_HAND + known.id]
        for first in range(0, len(asked_for), _PAGE):
            await self._store.connection.command("ZREM", tag + FIRINGS, *asked_for[first : first + _PAGE])
        return True

    async def ask_for(self, schedule: Schedule, flow_id: str, at: int) -> None:
        """Makes it fire once, beside its timetable, a flow of this id: asked for again under it, it is the same firing."""
        await self._store.connection.command("ZADD", self._tag(schedule.id) + FIRINGS, at, _BY_HAND + flow_id)

    async def is_asked_for(self, flow_id: str) -> bool:
        """Whether a flow of this id is still to be made, because somebody has run its schedule by hand."""
        return await self._stands(_BY_HAND, flow_id)

    async def call_off(self, flow_id: str) -> bool:
        """Takes back that a flow of this id is to be made; whether it is called off now, by this call or an earlier one. A worker
        may have made the flow nevertheless; who cancels it then says so with `forget`."""
        schedule_id, mark, _ = flow_id.rpartition("@")
        if not mark:
            return False
        words = (_BY_HAND + flow_id, _CALLED_OFF + flow_id, _CALLED_OFF_MS)
        return await self._store.connection.run("call_off", self._tag(schedule_id), *words) == b"called_off"

    async def is_called_off(self, flow_id: str) -> bool:
        """Whether it was called off a short while ago."""
        return await self._stands(_CALLED_OFF, flow_id)

    async def is_known(self, flow_id: str) -> bool:
        """Whether somebody has run its schedule by hand, and no worker has made it: not yet, or not any more."""
        return await self.is_asked_for(flow_id) or await self.is_called_off(flow_id)

    async def of_flow(self, flow_id: str) -> Schedule | None:
        """The schedule that makes the flow of this id; None: there is none (any more)."""
        return await self.get(flow_id.rpartition("@")[0])

    async def forget(self, flow_id: str) -> None:
        """Notes that nobody needs to know any more that it was called off."""
        tag = self._tag(flow_id.rpartition("@")[0])
        await self._store.connection.command("ZREM", tag + FIRINGS, _CALLED_OFF + flow_id)

    async def due(self, tag: str, now: int) -> AsyncIterator[Due]:
        """The firings of a partition whose time has come, by whoever can make them."""
        async for page in self._pages(tag, now):
            for member, at in page:
                if (one := await self._one_due(tag, member.decode(), int(at))) is not None:
                    yield one

    async def fired(self, due: Due, next_at: int, outcome: Firing) -> bool:
        """Notes that a firing was dealt with; False: somebody else did. `next_at`: 0 for none."""
        schedule_id = due.schedule.id
        tag, noted = self._tag(schedule_id), _BY_HAND + schedule_id if due.is_by_hand else schedule_id
        answer = await self._store.connection.run("fire", tag, due.member, due.at, next_at, schedule_id, noted, _pack(outcome))
        return answer == b"fired"

    async def every(self) -> list[tuple[Schedule, Firing, int | None]]:
        """All schedules by id, with what became of the latest firing, by hand or not, and when the next is due; None: paused."""
        found: list[tuple[Schedule, Firing, int | None]] = []
        for tag in self._store.partitions:
            definitions, fired, firings = await self._store.connection.commands(
                ("HGETALL", tag + SCHEDULES), ("HGETALL", tag + FIRED), ("ZRANGE", tag + FIRINGS, 0, -1, "WITHSCORES")
            )
            next_at = {member: int(at) for member, at in _pairs(firings)}
            for schedule_id, data in definitions.items():
                outcomes = [fired[noted] for noted in (schedule_id, _BY_HAND.encode() + schedule_id) if noted in fired]
                latest = max(map(_firing.decode, outcomes), key=lambda firing: firing.at, default=Firing())
                found.append((_schedule.decode(data), latest, next_at.get(schedule_id)))
        return sorted(found, key=lambda one: one[0].id)

    async def _pages(self, tag: str, now: int) -> AsyncIterator[list[tuple[bytes, float]]]:
        start = 0
        while members := await self._store.connection.command(
            "ZRANGEBYSCORE", tag + FIRINGS, "-inf", now, "LIMIT", start, _PAGE, "WITHSCORES"
        ):
            yield _pairs(members)
            start += _PAGE

    async def _one_due(self, tag: str, member: str, at: int) -> Due | None:
        schedule_id = member[1:].rpartition("@")[0] if member.startswith((_BY_HAND, _CALLED_OFF)) else member
        data, fired = await self._store.connection.commands(
            ("HGET", tag + SCHEDULES, schedule_id), ("HGET", tag + FIRED, schedule_id)
        )
        if data is None:  # it was removed since
            await self._store.connection.command("ZREM", tag + FIRINGS, member)
            return None
        return Due(_schedule.decode(data), Firing() if fired is None else _firing.decode(fired), at, member)

    async def _stands(self, prefix: str, flow_id: str) -> bool:
        schedule_id, mark, _ = flow_id.rpartition("@")
        if not mark:
            return False
        return await self._store.connection.command("ZSCORE", self._tag(schedule_id) + FIRINGS, prefix + flow_id) is not None

    def _tag(self, schedule_id: str) -> str:
        return self._store.keys.tag_of(schedule_id)


def _pairs(flat: list[Any]) -> list[tuple[bytes, float]]:
    """Members and scores, however this version of the client library gives them."""
    if flat and isinstance(flat[0], list | tuple):
        return [(member, float(score)) for member, score in flat]
    return [(flat[position], float(flat[position + 1])) for position in range(0, len(flat), 2)]
