"""Reads all queues: what waits, what runs, who serves them. Never scans keys, and reads a bounded part of each.

The queues are those that live workers serve, and those of all routes that there are (routes.py): somebody may wait there for
a worker that there is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import NamedTuple

from flowq.model.builtin import BUILTIN_QUEUE
from flowq.model.fleet import QueueSnapshot, WorkerSnapshot
from flowq.model.limit import OF_QUEUE, OF_TENANT
from flowq.model.pause import Pause
from flowq.store.damage import read_in_pages, sound, text_of
from flowq.store.due_soon import DUE_MEMBER, part_decoder
from flowq.store.keys import DUE, FLOW, RUNNING
from flowq.store.lane_names import lanes_of
from flowq.store.lane_samples import READ_MAX, Sample, ready_in, sampled
from flowq.store.pauses import Pauses
from flowq.store.ready import held_back_by_pauses
from flowq.store.routes import known_routes
from flowq.store.store import Store
from flowq.store.views import Views, head_decoder, pairs, record_decoder

# So many lanes of tenants are asked how long they are, and of what waits for a time so much of one partition is read; the rest
# is taken to be like that.
_LANES_MAX = 20_000
_DUE_MAX = 1_000
# What flows are that go on, paused or not; and those of which something begins when its time has come.
_BEGINS = ("s", "r", "x")
_GOES_ON = (*_BEGINS, "p", "o")


class KnownQueues(NamedTuple):
    """The queues that are known, by name. `is_complete`: whether there are no others."""

    queues: list[QueueSnapshot]
    is_complete: bool


class Fleet:
    """Queues, over one store."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views

    async def queues(self) -> KnownQueues:
        """All queues."""
        (workers, served), now = await self._views.serving(), await self._views.now()
        routes, is_complete = await known_routes(self._store, served)
        every = await Pauses(self._store).every()
        pauses = {pause.name: pause for pause in every if pause.kind == "queue"}
        count = _Count(now)
        await self._ready(sorted(routes), _pipelines(every), count)
        await self._delayed(_pipelines(every), count)
        await self._running(workers, count)
        # That of the stages which flowq brings itself is told of only where something waits or runs in it.
        serving = _serving(workers)
        names = ({_queue_of(route) for route in routes} | serving.keys()) - {BUILTIN_QUEUE}
        names |= (count.ready + count.running + count.delayed).keys() | pauses.keys()
        found: list[QueueSnapshot] = []
        for name in sorted(names):
            of_queue = [worker for worker in serving.get(name, ()) if not worker.is_alone]
            oldest = count.oldest.get(name)
            found.append(
                QueueSnapshot(
                    name=name,
                    ready=count.ready[name],
                    running=count.running[name],
                    delayed=count.delayed[name],
                    workers=len(of_queue),
                    slots=sum(worker.concurrency for worker in of_queue),
                    oldest_seconds=None if oldest is None else max(0, now - oldest) / 1000,
                    pause=pauses.get(name),
                    is_estimate=name in count.estimated or count.has_unread or not is_complete,
                )
            )
        return KnownQueues(found, is_complete)

    async def held_back(self, limits: Collection[str]) -> Mapping[str, int]:
        """Limit → how many stages are ready, of these limits on queues and tenants."""
        _, served = await self._views.serving()
        routes = sorted((await known_routes(self._store, served)).routes)
        lanes = [
            lane
            for lane in await lanes_of(self._store.connection, self._store.partitions, _with_suspects(routes))
            if {OF_QUEUE + lane.queue, OF_TENANT + lane.tenant}.intersection(limits)
        ]
        samples = await sampled(self._store.connection, lanes, _pipelines(await Pauses(self._store).every()))
        found: dict[str, list[Sample]] = {}
        for sample in samples:
            for limit in {OF_QUEUE + sample.lane.queue, OF_TENANT + sample.lane.tenant}.intersection(limits):
                found.setdefault(limit, []).append(sample)
        return {limit: ready_in(of_limit)[0] for limit, of_limit in found.items()}

    async def _ready(self, routes: Sequence[str], pipelines: Collection[str], count: _Count) -> None:
        lanes = await lanes_of(self._store.connection, self._store.partitions, _with_suspects(routes), _LANES_MAX)
        found: dict[str, list[Sample]] = {}
        for sample in await sampled(self._store.connection, lanes, pipelines):
            found.setdefault(sample.lane.queue, []).append(sample)
        for queue, samples in found.items():
            stages, is_estimate = ready_in(samples)
            count.add(count.ready, queue, stages, is_estimate=is_estimate)
            for since in (waiting.since for sample in samples for waiting in sample.ready):
                count.note_waiting(queue, since)

    async def _delayed(self, pipelines: Collection[str], count: _Count) -> None:
        parts = await self._waiting_for_time(count.now)
        flows = [(part.tag, member.flow_id, member.field) for part in parts for member in part.members if member]
        asked = [("HMGET", tag + FLOW + flow_id, "m", field, "p") for tag, flow_id, field in flows]
        answers = await read_in_pages(self._store.connection, asked)
        plans = {(tag, flow_id): answer and answer[2] for (tag, flow_id, _), answer in zip(flows, answers, strict=True)}
        held, fields = await held_back_by_pauses(self._store.connection, plans, pipelines), iter(answers)
        for part in parts:
            stages: Counter[str] = Counter()
            for member in filter(None, part.members):
                head, data, _ = next(fields) or (None, None, None)
                if part.is_due and (part.tag, member.flow_id) in held:
                    continue
                of_member = _stages_of(member.field, head, data, is_due=part.is_due)
                stages.update(of_member)
                for queue in of_member if part.is_due else ():
                    count.note_waiting(queue, member.due_at)
            read, counter = len(part.members), count.ready if part.is_due else count.delayed
            count.has_unread |= read < part.total
            for queue, number in stages.items():
                count.add(counter, queue, round(number * part.total / read), is_estimate=read < part.total)

    async def _waiting_for_time(self, now: int) -> list[_Part]:
        """What is due waits for a worker, and if there is none, nobody makes it ready either."""
        tags = self._store.partitions
        most = min(_DUE_MAX, max(1, READ_MAX // len(tags)))
        asked = [
            question
            for due in (tag + DUE for tag in tags)
            for question in (("ZCARD", due), ("ZCOUNT", due, "-inf", now), ("ZRANGE", due, 0, most - 1, "WITHSCORES"))
        ]
        answers = await read_in_pages(self._store.connection, asked)
        parts: list[_Part] = []
        for tag, total, due, scored in zip(tags, answers[::3], answers[1::3], answers[2::3], strict=True):
            members = [_Due.of(member, due_at) for member, due_at in pairs(scored or [])]
            parts.append(_Part(tag, members[: due or 0], due or 0, is_due=True))
            parts.append(_Part(tag, members[due or 0 :], (total or 0) - (due or 0), is_due=False))
        return parts

    async def _running(self, workers: Sequence[WorkerSnapshot], count: _Count) -> None:
        asked = [(tag, tag + RUNNING + worker.id) for tag in self._store.partitions for worker in workers]
        answers = await read_in_pages(self._store.connection, [("SMEMBERS", key) for _, key in asked])
        found = [
            (tag + FLOW + flow, index)
            for (tag, _), members in zip(asked, answers, strict=True)
            for index, _, flow in (text_of(member).partition(":") for member in members or ())
        ]
        step = ceil(len(found) / READ_MAX) or 1
        stages: Counter[str] = Counter()
        for data in await read_in_pages(self._store.connection, [("HGET", *stage) for stage in found[::step]]):
            if (record := sound(record_decoder, data)) is not None and record.state == "x":
                stages[_queue_of(record.route)] += 1
        for queue, number in stages.items():
            count.add(count.running, queue, number * step, is_estimate=step > 1)


class _Due(NamedTuple):
    """What waits for a time: the field of its flow that says what, the flow, and the time."""

    field: str
    flow_id: str
    due_at: int

    @classmethod
    def of(cls, member: str, due_at: int) -> _Due | None:
        """None: no stage waits."""
        found = DUE_MEMBER.fullmatch(member)
        return found and cls(found[1], found[2], due_at)


class _Part(NamedTuple):
    """What waits for a time in one partition, and is due or not: what was read of it, and how much there is."""

    tag: str
    members: Sequence[_Due | None]
    total: int
    is_due: bool


class _Count:
    """What was counted so far, by queue."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.ready: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.delayed: Counter[str] = Counter()
        self.oldest: dict[str, int] = {}
        self.estimated: set[str] = set()
        self.has_unread = False  # of whatever queue

    def add(self, counter: Counter[str], queue: str, stages: int, *, is_estimate: bool) -> None:
        """So many more stages."""
        counter[queue] += stages
        if is_estimate:
            self.estimated.add(queue)

    def note_waiting(self, queue: str, since: int | None) -> None:
        """One of its stages has waited since then."""
        if since is not None:
            self.oldest[queue] = min(since, self.oldest.get(queue, since))


def _stages_of(name: str, head_data: bytes | None, data: bytes | None, *, is_due: bool) -> Counter[str]:
    """Queue → its stages, of what waits for a time; what is due of a flow that is paused waits for that to end."""
    found: Counter[str] = Counter()
    head = sound(head_decoder, head_data)
    if head is None or head.status not in (_BEGINS if is_due else _GOES_ON):
        return found
    if name.startswith("b"):
        for route, _, first, last in (sound(part_decoder, data) or (0, []))[1]:
            found[_queue_of(route)] += last - first + 1
    # What is suspended waits in no queue before its time.
    elif (record := sound(record_decoder, data)) is not None and (record.state == "s" or (record.state == "u" and is_due)):
        found[_queue_of(record.route)] += 1
    return found


def _with_suspects(routes: Iterable[str]) -> list[str]:
    return [route + suspect for route in routes for suspect in ("", "!")]


def _pipelines(pauses: Iterable[Pause]) -> set[str]:
    return {pause.name for pause in pauses if pause.kind == "pipeline"}


def _serving(workers: Iterable[WorkerSnapshot]) -> dict[str, list[WorkerSnapshot]]:
    found: dict[str, list[WorkerSnapshot]] = {}
    for worker in workers:
        for queue in worker.queues:
            found.setdefault(queue, []).append(worker)
    return found


def _queue_of(route: str) -> str:
    return route.partition(":")[0]
