"""What waits for a time, read in all partitions at once; of many, the first stand for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from flowq.store.damage import read_in_pages, sound
from flowq.store.due_soon import DUE_MEMBER, part_decoder
from flowq.store.keys import DUE, FLOW
from flowq.store.lane_samples import READ_MAX
from flowq.store.ready import held_by_pauses
from flowq.store.store import Store
from flowq.store.views import head_decoder, pairs, record_decoder
from flowq.store.wants import queue_of

# So much of one partition is read at most.
_PARTITION_MAX: Final = 1_000
# What flows are that go on, paused or not; and those of which something begins when its time has come.
_BEGINS: Final = ("s", "r", "x")
_GOES_ON: Final = (*_BEGINS, "p", "o")


class DueSample(NamedTuple):
    """What waits for a time in one partition, by queue.

    Attributes:
        is_due: the time has come: it waits for a worker, and if there is none, nobody makes it ready either.
        stages: how many.
        due_since: since when the longest of them has been due; empty: they are not.
        is_estimate: not all was read, and the rest may be of any queue.
    """

    is_due: bool
    stages: Mapping[str, int]
    due_since: Mapping[str, int]
    is_estimate: bool


async def due_samples(store: Store, now: int, pipelines: Collection[str]) -> list[DueSample]:
    """What waits for a time, while these pipelines are paused."""
    parts = await _parts(store, now)
    stages = await _stages_of(store, [member for part in parts for member in part.members], pipelines)
    return [part.sample(stages) for part in parts]


class _Member(NamedTuple):
    """What waits for a time: the field of its flow that says what."""

    tag: str
    flow_id: str
    field: str
    due_at: int
    is_due: bool

    @property
    def question(self) -> tuple[str, ...]:
        return "HMGET", self.tag + FLOW + self.flow_id, "m", "p", self.field

    def stages(self, head_data: bytes | None, _: Any, data: bytes | None) -> Counter[str]:
        """Queue → its stages; what is due of a flow that is paused waits for that to end."""
        found: Counter[str] = Counter()
        head = sound(head_decoder, head_data)
        if head is None or head.status not in (_BEGINS if self.is_due else _GOES_ON):
            return found
        if self.field.startswith("b"):
            for route, _, first, last in (sound(part_decoder, data) or (0, []))[1]:
                found[queue_of(route)] += last - first + 1
        # What is suspended waits in no queue before its time.
        elif (record := sound(record_decoder, data)) and (record.state == "s" or (record.state == "u" and self.is_due)):
            found[queue_of(record.route)] += 1
        return found


class _Part(NamedTuple):
    """What is due in one partition, or what is not: how much it is, how much of it was read, and what of that are stages."""

    is_due: bool
    total: int
    read: int
    members: Sequence[_Member]

    def sample(self, stages: Mapping[_Member, Counter[str]]) -> DueSample:
        found: Counter[str] = Counter()
        due_since: dict[str, int] = {}
        for member in self.members:
            found.update(stages[member])
            for queue in stages[member] if self.is_due else ():
                due_since.setdefault(queue, member.due_at)  # they stand by their time
        scaled = {queue: round(number * self.total / self.read) for queue, number in found.items()}
        return DueSample(self.is_due, scaled, due_since, is_estimate=self.read < self.total)


async def _parts(store: Store, now: int) -> list[_Part]:
    most = min(_PARTITION_MAX, max(1, READ_MAX // len(store.partitions)))
    asked = [
        question
        for due in (tag + DUE for tag in store.partitions)
        for question in (("ZCARD", due), ("ZCOUNT", due, "-inf", now), ("ZRANGE", due, 0, most - 1, "WITHSCORES"))
    ]
    answers = await read_in_pages(store.connection, asked)
    parts: list[_Part] = []
    for tag, total, due, scored in zip(store.partitions, answers[::3], answers[1::3], answers[2::3], strict=True):
        read, many_due = pairs(scored or []), due or 0
        for is_due, of_part, size in ((True, read[:many_due], many_due), (False, read[many_due:], (total or 0) - many_due)):
            parts.append(_Part(is_due, size, len(of_part), _members(tag, of_part, is_due=is_due)))
    return parts


def _members(tag: str, scored: Sequence[tuple[str, int]], *, is_due: bool) -> list[_Member]:
    found = [(DUE_MEMBER.fullmatch(text), due_at) for text, due_at in scored]
    return [_Member(tag, match[2], match[1], due_at, is_due) for match, due_at in found if match]


async def _stages_of(store: Store, members: Sequence[_Member], pipelines: Collection[str]) -> dict[_Member, Counter[str]]:
    answers = dict(zip(members, await read_in_pages(store.connection, [member.question for member in members]), strict=True))
    plans = {(member.tag, member.flow_id): answer and answer[1] for member, answer in answers.items()}
    held = await held_by_pauses(store.connection, plans, pipelines)
    return {
        member: Counter() if not answer or (member.is_due and (member.tag, member.flow_id) in held) else member.stages(*answer)
        for member, answer in answers.items()
    }
