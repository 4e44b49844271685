"""A worker that stops by itself: when it has run nothing and found nothing for long enough, and not before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowProducer, RetryAfter, Worker, context, pipeline, stage
from flowq.engine.worker.idleness import AtRest, Idleness
from flowq.engine.worker.supervisor import Supervisor
from flowq.errors import FlowqError, InvalidValue
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.engine.supervised import begun, locked, options_for, supervised_quick, supervised_while_locked, written
from tests.engine.test_supervisor import settings_of
from tests.engine.waiting import in_the_end
from tests.engine.work import PATIENCE, Gate, until, working

pytestmark = pytest.mark.anyio

gate = Gate()
TIMEOUT_MS = 60_000


@stage
async def idle_quick() -> int:
    return 1


@stage
async def idle_gated() -> int:
    await gate.stop_async()
    return 1


@stage(attempts=2)
async def idle_again(after: str) -> int:
    if context().attempt == 1:
        raise RetryAfter(after, "not now")
    return 2


@pipeline
def idle_pair() -> list[int]:
    return [idle_quick(), idle_gated()]


class Scene:
    """A worker played by hand, and a clock that the test moves."""

    def __init__(self, producer: FlowProducer, route: str, store: Store | None = None) -> None:
        self.seconds, self.begun, self.stops = 0.0, 0, 0
        self.runs = False
        self._route = route
        store = store or producer._open.store
        self.idleness = Idleness(store, TIMEOUT_MS, self._at_rest, self._stop, lambda: self.seconds)

    def _at_rest(self) -> AtRest | None:
        return None if self.runs else AtRest.of([self._route], [self.begun])

    def _stop(self) -> None:
        self.stops += 1

    async def stopped_after(self, *seconds: float) -> bool:
        """Looks once after each of these times; whether it was stopped."""
        for passed in seconds:
            self.seconds += passed
            await self.idleness.run_once()
        return self.stops > 0


async def test_who_was_idle_for_the_whole_time_stops(producer: FlowProducer) -> None:
    scene = Scene(producer, "default:idle_quick")
    assert not await scene.stopped_after(0, 30, 29)
    assert await scene.stopped_after(1)


async def test_a_stage_that_ran_between_two_looks_begins_the_time_anew(producer: FlowProducer) -> None:
    scene = Scene(producer, "default:idle_quick")
    assert not await scene.stopped_after(0, 59)
    scene.begun += 1
    assert not await scene.stopped_after(1, 59)
    assert await scene.stopped_after(1)


async def test_who_runs_something_is_not_idle(producer: FlowProducer) -> None:
    scene = Scene(producer, "default:idle_quick")
    scene.runs = True
    assert not await scene.stopped_after(0, 60, 60)


async def test_what_is_ready_keeps_those_who_serve_it(producer: FlowProducer) -> None:
    await producer.add(idle_quick.flow())
    assert not await Scene(producer, "default:idle_quick").stopped_after(0, 60, 60)
    assert await Scene(producer, "default:another").stopped_after(0, 60)


@pytest.mark.parametrize("delay", [None, "30s"])
async def test_what_waits_in_a_paused_queue_keeps_nobody(producer: FlowProducer, delay: str | None) -> None:
    await producer.add(idle_quick.flow(), delay=delay)
    await producer.pause_queue("default")
    assert await Scene(producer, "default:idle_quick").stopped_after(0, 60)
    await producer.resume_queue("default")
    assert not await Scene(producer, "default:idle_quick").stopped_after(0, 60, 60)


@pytest.mark.parametrize(("delay", "stops"), [("30s", False), ("1h", True)])
async def test_a_flow_that_begins_within_the_time_is_waited_for(producer: FlowProducer, delay: str, *, stops: bool) -> None:
    await producer.add(idle_quick.flow(), delay=delay)
    assert await Scene(producer, "default:idle_quick").stopped_after(0, 60) is stops
    assert await Scene(producer, "default:another").stopped_after(0, 60)


@pytest.mark.parametrize(("after", "stops"), [("30s", False), ("1h", True)])
async def test_a_retry_within_the_time_is_waited_for(producer: FlowProducer, after: str, *, stops: bool) -> None:
    flow = await producer.add(idle_again.flow(after))
    async with working(producer, idle_again):
        await until(flow, lambda snapshot: snapshot.stage("idle_again").state == "scheduled")
    assert await Scene(producer, "default:idle_again").stopped_after(0, 60) is stops
    assert await Scene(producer, "default:another").stopped_after(0, 60)


async def test_while_the_server_is_out_of_reach_nobody_is_idle(producer: FlowProducer) -> None:
    store = producer._open.store
    scene = Scene(producer, "default:idle_quick")
    assert not await scene.stopped_after(0)
    gone = Store(Connection("unix:///nowhere/valkey.sock", patience=0), store.keys.namespace)
    scene.idleness._store = gone
    with pytest.raises(FlowqError):
        await scene.stopped_after(40)
    await gone.close()
    scene.idleness._store = store
    assert not await scene.stopped_after(40)
    assert await scene.stopped_after(60)


async def test_an_embedded_worker_returns_by_itself(producer: FlowProducer) -> None:
    flow = await producer.add(idle_quick.flow())
    settings = producer._settings
    worker = Worker(settings.url, stages=[idle_quick], namespace=settings.namespace, idle_timeout="100ms")
    await asyncio.wait_for(worker.run(), PATIENCE)
    assert await flow.result(1) == 1
    assert not await producer.workers()


async def test_an_embedded_worker_does_not_return_while_it_runs_a_stage(producer: FlowProducer) -> None:
    gate.close()
    flow = await producer.add(idle_gated.flow())
    settings = producer._settings
    worker = Worker(settings.url, stages=[idle_gated], namespace=settings.namespace, idle_timeout="100ms")
    running = asyncio.create_task(worker.run())
    await gate.until_arrived()
    assert worker._at_rest() is None
    assert not running.done()
    gate.opened.set()
    await asyncio.wait_for(running, PATIENCE)
    assert await flow.result(1) == 1


@pytest.mark.parametrize("timeout", ["soon", 0, -1, "0s", "99ms", True])
async def test_an_idle_timeout_that_can_not_be_is_refused(timeout: Any) -> None:
    with pytest.raises(InvalidValue, match="idle_timeout"):
        Worker("redis://localhost", stages=[idle_quick], idle_timeout=timeout)


async def test_a_supervisor_is_idle_only_if_all_its_children_are(producer: FlowProducer, tmp_path: Path) -> None:
    module = written(tmp_path)
    with locked(tmp_path / "busy") as path:
        busy = await producer.add(supervised_while_locked.flow(path))
        supervisor = Supervisor(settings_of(producer), options_for(module, idle_timeout_ms=1, processes=2))
        running = asyncio.create_task(supervisor.run())
        await begun(tmp_path / "busy")
        for _ in range(3):  # whichever of the children takes them
            await (await producer.add(supervised_quick.flow())).result(PATIENCE)

        async def is_told_of() -> bool:
            return sum(nurse.begun for nurse in supervisor._nurses) >= 4

        await in_the_end(is_told_of)
        assert supervisor._at_rest() is None
        assert not running.done()
    await asyncio.wait_for(running, PATIENCE)
    assert (await busy.inspect()).state == "completed"
    assert not await producer.workers()
