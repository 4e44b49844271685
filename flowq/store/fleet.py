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
from flowq.store.due_samples import due_samples
from flowq.store.keys import FLOW, RUNNING
from flowq.store.lane_names import lanes_of
from flowq.store.lane_samples import READ_MAX, Sample, ready_in, sampled
from flowq.store.pauses import Pauses
from flowq.store.routes import known_routes
from flowq.store.store import Store
from flowq.store.views import Views, record_decoder
from flowq.store.wants import queue_of

# So many lanes of tenants are asked how long they are; the rest is taken to be like that.
_LANES_MAX = 20_000


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
        names = ({queue_of(route) for route in routes} | serving.keys()) - {BUILTIN_QUEUE}
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
                    is_estimate=count.is_estimate(name) or not is_complete,
                )
            )
        return KnownQueues(found, is_complete)

    async def ready_by_limit(self, limits: Collection[str]) -> Mapping[str, int]:
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
            count.ready[queue] += stages
            if is_estimate:
                count.mark_estimate(queue)
            for since in (waiting.since for sample in samples for waiting in sample.ready):
                count.note_waiting(queue, since)

    async def _delayed(self, pipelines: Collection[str], count: _Count) -> None:
        for sample in await due_samples(self._store, count.now, pipelines):
            counter = count.ready if sample.is_due else count.delayed
            for queue, stages in sample.stages.items():
                counter[queue] += stages
            for queue, since in sample.due_since.items():
                count.note_waiting(queue, since)
            if sample.is_estimate:
                count.mark_all_estimates()

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
                stages[queue_of(record.route)] += 1
        for queue, number in stages.items():
            count.running[queue] += number * step
            if step > 1:
                count.mark_estimate(queue)


class _Count:
    """What was counted so far, by queue."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.ready: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.delayed: Counter[str] = Counter()
        self.oldest: dict[str, int] = {}
        self._estimates: set[str] = set()
        self._are_all_estimates = False

    def mark_estimate(self, queue: str) -> None:
        """Not all of this queue was read."""
        self._estimates.add(queue)

    def mark_all_estimates(self) -> None:
        """Something was not read that may be of any queue."""
        self._are_all_estimates = True

    def is_estimate(self, queue: str) -> bool:
        """Whether what is counted of this queue is an estimate."""
        return self._are_all_estimates or queue in self._estimates

    def note_waiting(self, queue: str, since: int | None) -> None:
        """One of its stages has waited since then."""
        if since is not None:
            self.oldest[queue] = min(since, self.oldest.get(queue, since))


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
