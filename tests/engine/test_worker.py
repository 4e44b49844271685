"""A worker in one's own process, from claim to result: retries, timeouts, cancelling, leases, draining."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from flowq import Backoff, FlowProducer, RetryAfter, Unrecoverable, Worker, context, pipeline, stage
from flowq.engine.duties.duties import rescue
from flowq.engine.run.context import StageContext
from flowq.errors import (
    DefinitionError,
    FlowCancelled,
    FlowFailed,
    InvalidValue,
    ServerUnreachable,
    SlotsUnusable,
    StageNameTaken,
)
from flowq.pipeline import Stage
from tests.engine.waiting import closed_connections_of, in_the_end
from tests.engine.work import Gate, outcome, until, working
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio


async def test_async_and_plain_stages_pass_results_on(producer: FlowProducer) -> None:
    @stage
    async def twice(number: int) -> int:
        return 2 * number

    @stage
    def joined(left: int, right: int) -> str:
        return f"{left} and {right}"

    @pipeline
    def sums(number: int) -> str:
        return joined(twice(number), twice(number + 1))

    async with working(producer, twice, joined):
        flow = await producer.add(sums(20))
        assert await flow.result(30) == "40 and 42"


async def test_a_failing_stage_is_retried_until_it_succeeds(producer: FlowProducer) -> None:
    @stage(attempts=3, backoff=Backoff.fixed("10ms"))
    def flaky() -> int:
        if context().attempt < 3:
            raise OSError("not yet")
        return context().attempt

    async with working(producer, flaky):
        flow = await producer.add(flaky.flow())
        assert await flow.result(30) == 3
    done = (await flow.inspect()).stage("flaky")
    assert [(run.attempt, run.outcome, run.cause) for run in done.history] == [
        (1, "retried", "OSError: not yet"),
        (2, "retried", "OSError: not yet"),
    ]
    assert done.failure is None, "what was overcome is history"


async def test_a_stage_that_uses_up_its_attempts_fails_the_flow(producer: FlowProducer) -> None:
    @stage(attempts=2, backoff=Backoff.none())
    async def hopeless() -> None:
        raise ValueError("bad luck")

    async with working(producer, hopeless):
        error = await outcome(await producer.add(hopeless.flow()))
    assert isinstance(error, FlowFailed)
    assert (error.stage, error.error_type, error.message) == ("hopeless", "ValueError", "bad luck")
    assert "raise ValueError" in error.traceback


async def test_retry_after_waits_as_long_as_it_says_and_may_cost_no_attempt(producer: FlowProducer) -> None:
    runs: list[float] = []

    @stage(attempts=1)
    async def limited() -> int:
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise RetryAfter("60ms", "429", uses_attempt=False)
        return context().attempt

    async with working(producer, limited):
        assert await (await producer.add(limited.flow())).result(30) == 1
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(runs))


async def test_unrecoverable_fails_at_once(producer: FlowProducer) -> None:
    runs: list[int] = []

    @stage(attempts=5, backoff=Backoff.none())
    async def stubborn() -> None:
        runs.append(1)
        raise Unrecoverable("no such video")

    async with working(producer, stubborn):
        error = await outcome(await producer.add(stubborn.flow()))
    assert isinstance(error, FlowFailed)
    assert len(runs) == 1


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_stage_that_takes_too_long_is_ended_and_its_context_says_so(producer: FlowProducer, kind: str) -> None:
    seen: list[StageContext] = []
    gate = Gate()

    @stage(name="slow_async", timeout="100ms")
    async def slow_async() -> None:
        seen.append(context())
        await asyncio.Event().wait()

    @stage(name="slow_plain", timeout="100ms")
    def slow_plain() -> None:
        seen.append(context())
        gate.stop()

    slow: Any = slow_async if kind == "async" else slow_plain
    async with working(producer, slow):
        error = await outcome(await producer.add(slow.flow()))
        assert isinstance(error, FlowFailed)
        assert error.error_type == "StageTimedOut"
        assert seen[0].cancelled
        gate.opened.set()


async def test_threads_that_do_not_stop_keep_no_other_stage_waiting(producer: FlowProducer) -> None:
    gate = Gate()

    @stage(timeout="50ms")
    def unhearing() -> None:
        gate.stop()

    @stage
    def quick() -> str:
        return "done"

    async with working(producer, unhearing, quick, concurrency=1):
        assert isinstance(await outcome(await producer.add(unhearing.flow())), FlowFailed)
        assert await (await producer.add(quick.flow())).result(30) == "done"
        gate.opened.set()


@pytest.mark.parametrize("concurrency", [1, 5], ids=["a full worker", "a worker with room"])
async def test_a_running_stage_is_told_that_its_flow_was_cancelled(producer: FlowProducer, concurrency: int) -> None:
    gate, ended = Gate(), asyncio.Event()

    @stage
    async def endless() -> None:
        gate.arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with working(producer, endless, concurrency=concurrency):
        flow = await producer.add(endless.flow())
        await gate.until_arrived()
        assert await flow.cancel("changed my mind")
        await asyncio.wait_for(ended.wait(), 5)
        error = await outcome(flow)
    assert isinstance(error, FlowCancelled)
    assert error.reason == "changed my mind"


async def test_a_plain_stage_sees_that_its_flow_was_cancelled(producer: FlowProducer) -> None:
    gate, saw = Gate(), threading.Event()

    @stage
    def polling() -> None:
        gate.arrived.set()
        while not context().cancelled:
            threading.Event().wait(0.005)
        saw.set()

    async with working(producer, polling, concurrency=1):
        flow = await producer.add(polling.flow())
        await gate.until_arrived()
        await flow.cancel()
        assert await asyncio.to_thread(saw.wait, 5)


async def test_a_cancelled_stage_leaves_room_for_the_next(producer: FlowProducer) -> None:
    @stage
    async def endless() -> None:
        await asyncio.Event().wait()

    @stage
    async def quick() -> str:
        return "done"

    async with working(producer, endless, quick, concurrency=2):
        flows = await producer.add_bulk(endless.flow().with_options(id=f"e{number}") for number in range(6))
        for flow in flows:
            await flow.cancel()
        assert await (await producer.add(quick.flow())).result(30) == "done"


async def test_a_large_result_goes_to_storage_by_itself(producer: FlowProducer) -> None:
    @stage
    def produce() -> list[str]:
        return ["x" * 100] * 1_000

    @stage
    async def weigh(lines: list[str]) -> int:
        return sum(len(line) for line in lines)

    @pipeline
    def both() -> tuple[list[str], int]:
        lines = produce()
        return lines, weigh(lines)

    async with working(producer, produce, weigh):
        flow = await producer.add(both())
        lines, size = await flow.result(30)
    assert (len(lines), size) == (1_000, 100_000)
    key = producer._open.store.keys.flow(flow.id)
    assert await producer._open.store.connection.command("HSTRLEN", key, "r0") < 1_000


async def test_a_large_result_without_storage_is_refused_with_the_remedy(producer: FlowProducer) -> None:
    @stage(attempts=3)
    def produce() -> str:
        return "x" * 10_000

    async with working(producer, produce, artifacts=""):
        error = await outcome(await producer.add(produce.flow()))
    assert isinstance(error, FlowFailed)
    assert error.error_type == "ValueTooLarge"
    assert "FLOWQ_ARTIFACTS" in error.message


async def test_a_result_that_can_not_be_stored_names_the_field(producer: FlowProducer) -> None:
    @stage(attempts=3)
    async def odd() -> dict[str, Any]:
        return {"frames": [1, 2, object()]}

    async with working(producer, odd):
        error = await outcome(await producer.add(odd.flow()))
    assert isinstance(error, FlowFailed)
    assert error.error_type == "ValueNotStorable"
    assert "result['frames'][2]" in error.message


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


ODD_ENDINGS = {
    "StopIteration": lambda: next(iter([])),
    "SystemExit": lambda: exec("raise SystemExit(3)"),
    "KeyboardInterrupt": lambda: exec("raise KeyboardInterrupt"),
    "CancelledError": lambda: exec("import asyncio; raise asyncio.CancelledError"),
    "_Unprintable": lambda: exec("raise error", {"error": _Unprintable()}),
    "RecursionError": lambda: (lambda again: again(again))(lambda again: again(again)),
    "ExceptionGroup": lambda: exec("raise ExceptionGroup('several', [ValueError(1), OSError(2)])"),
}


@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("ending", ODD_ENDINGS)
async def test_however_a_stage_ends_its_flow_ends_too(producer: FlowProducer, ending: str, kind: str) -> None:
    @stage(name="odd_async")
    async def odd_async() -> None:
        ODD_ENDINGS[ending]()

    @stage(name="odd_plain")
    def odd_plain() -> None:
        ODD_ENDINGS[ending]()

    odd: Any = odd_async if kind == "async" else odd_plain
    async with working(producer, odd):
        error = await outcome(await producer.add(odd.flow()))
    assert isinstance(error, FlowFailed)
    assert error.error_type in (ending, "RuntimeError")


async def test_a_stage_that_awaits_a_cancelled_task_fails_like_any_other(producer: FlowProducer) -> None:
    @stage
    async def careless() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    async with working(producer, careless):
        assert isinstance(await outcome(await producer.add(careless.flow())), FlowFailed)


async def test_more_stages_than_room_all_run_and_never_more_at_once(producer: FlowProducer) -> None:
    running, most, full = 0, 0, asyncio.Event()

    @stage
    async def counted(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 7:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return number

    async with working(producer, counted, concurrency=7):
        flows = await producer.add_bulk(counted.flow(number) for number in range(200))
        assert [await flow.result(30) for flow in flows] == list(range(200))
    assert most == 7


async def test_a_stopped_worker_finishes_what_runs_and_claims_no_more(producer: FlowProducer) -> None:
    gate = Gate()

    @stage
    async def gated() -> str:
        await gate.stop_async()
        return "done"

    async with working(producer, gated, concurrency=1, drain_timeout=20) as worker:
        first, second = await producer.add(gated.flow()), await producer.add(gated.flow())
        await gate.until_arrived()
        stopping = asyncio.create_task(worker.stop())
        for _ in range(3):  # it has begun to drain before the stage may end
            await asyncio.sleep(0)
        gate.opened.set()
        await stopping
    states = sorted([(await first.inspect()).state, (await second.inspect()).state])
    assert states == ["completed", "ready"]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_what_does_not_end_in_time_is_handed_back_and_loses_nothing(producer: FlowProducer, kind: str) -> None:
    gate = Gate()

    @stage(name="long_async", attempts=1)
    async def long_async() -> int:
        await gate.stop_async()
        return context().attempt

    @stage(name="long_plain", attempts=1)
    def long_plain() -> int:
        gate.stop()
        return context().attempt

    long: Any = long_async if kind == "async" else long_plain
    async with working(producer, long, drain_timeout="50ms"):
        flow = await producer.add(long.flow())
        await gate.until_arrived()
    back = (await flow.inspect()).stage(long.name)
    assert (back.state, back.attempt, back.crashes, [run.outcome for run in back.history]) == ("ready", 0, 0, ["released"])
    gate.opened.set()
    async with working(producer, long):
        assert await flow.result(30) == 1


async def test_a_cancelled_worker_hands_everything_back_at_once(producer: FlowProducer) -> None:
    gate = Gate()

    @stage
    async def endless() -> None:
        gate.arrived.set()
        await asyncio.Event().wait()

    worker = Worker(producer._settings.url, stages=[endless], namespace=producer._settings.namespace)
    task = asyncio.create_task(worker.run())
    flow = await producer.add(endless.flow())
    await gate.until_arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    back = (await flow.inspect()).stage("endless")
    assert (back.state, back.attempt, back.crashes) == ("ready", 0, 0)
    assert not await producer.workers()


async def test_stopping_before_running_and_twice_is_harmless(producer: FlowProducer) -> None:
    @stage
    async def quick() -> None: ...

    async with working(producer, quick) as worker:
        await worker.stop()
        await worker.stop()


async def test_a_worker_whose_lease_was_given_to_others_begins_again_and_its_late_result_is_refused(
    producer: FlowProducer,
) -> None:
    gate, runs = Gate(), []

    @stage
    async def slow() -> int:
        runs.append(context().fence)
        if len(runs) == 1:
            gate.arrived.set()
            await asyncio.Event().wait()
        return context().fence

    async with working(producer, slow):
        flow = await producer.add(slow.flow())
        await gate.until_arrived()
        (worker,) = await producer.workers()
        store = producer._open.store
        for tag in store.partitions:
            await store.rescue(tag, worker.id, "taken away by the test", is_crash=False)
        assert await flow.result(30) == 2
        (after,) = await producer.workers()
        assert after.id != worker.id
    assert runs == [1, 2]


async def test_a_worker_that_begins_again_listens_no_longer_for_who_it_was(producer: FlowProducer) -> None:
    @stage
    async def quick() -> None: ...

    store = producer._open.store

    async def channels() -> set[bytes]:
        return set(await store.connection.command("PUBSUB", "SHARDCHANNELS", f"{{{store.keys.namespace}:*:wake:*"))

    async with working(producer, quick):
        first = await in_the_end(channels)
        (worker,) = await producer.workers()
        for tag in store.partitions:
            await store.rescue(tag, worker.id, "taken away by the test", is_crash=False)

        async def listens_for_another_only() -> bool:
            return bool(now := await channels()) and not now & first

        await in_the_end(listens_for_another_only)


async def test_suspects_run_alone(producer: FlowProducer) -> None:
    running, together = 0, []

    @stage
    async def watched() -> None:
        nonlocal running
        running += 1
        together.append(running)
        await flows[0].inspect()  # meanwhile others would begin
        running -= 1

    flows = await producer.add_bulk(watched.flow() for _ in range(4))
    # A process in which all four ran together has crashed.
    store = producer._open.store
    actor = await Actor(store, routes=("watched",)).begin()
    assert len(await actor.claim(4)) == 4
    await rescue(store, actor.id, "killed by SIGKILL")
    async with working(producer, watched, concurrency=10):
        for flow in flows:
            await flow.result(30)
    assert together == [1, 1, 1, 1]
    assert {(await flow.inspect()).stage("watched").attempt for flow in flows} == {1}


async def test_a_suspect_has_its_turn_under_steady_work(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowq.engine.worker.worker._MAKE_WAY_SECONDS", 0.2)

    @stage
    async def suspicious() -> None: ...

    may_end: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)

    @stage
    async def steady(number: int) -> None:
        await may_end[number].wait()

    async def keep_busy() -> None:
        for number in range(10_000):  # of which five, at least, always run or could
            await producer.add(steady.flow(number))
            may_end[number - 5].set()

    store = producer._open.store
    flows = await producer.add_bulk(suspicious.flow() for _ in range(2))
    actor = await Actor(store, routes=("suspicious",)).begin()
    assert len(await actor.claim(2)) == 2
    async with working(producer, suspicious, steady, concurrency=10):
        busy = asyncio.create_task(keep_busy())
        await rescue(store, actor.id, "killed by SIGKILL")
        for flow in flows:
            await flow.result(30)
        busy.cancel()


async def test_a_priority_decides_who_runs_first(producer: FlowProducer) -> None:
    order: list[int] = []

    @stage
    async def noted(number: int) -> None:
        order.append(number)

    for number in (0, 3, 1, 2):
        await producer.add(noted.flow(number), id=f"p{number}", priority=number)
    async with working(producer, noted, concurrency=1):
        for number in range(4):
            await producer.flow(f"p{number}").result(30)
    assert order == [3, 2, 1, 0]


async def test_a_queue_is_served_only_by_who_was_told_to(producer: FlowProducer) -> None:
    @stage(queue="gpu")
    async def heavy() -> str:
        return "done"

    async with working(producer, heavy, queues={"cpu": None}):
        flow = await producer.add(heavy.flow())
        reason = (await until(flow, lambda snapshot: snapshot.graph[0].reason is not None)).graph[0].reason
        assert reason is not None
        assert (reason.code, reason.on) == ("no_worker", ("gpu",))
        async with working(producer, heavy, queues={"gpu": 1}):
            assert await flow.result(30) == "done"


@pytest.mark.usefixtures("impatient")
async def test_a_worker_without_a_server_says_so_in_one_error() -> None:
    @stage
    async def quick() -> None: ...

    with pytest.raises(ServerUnreachable):
        await Worker("redis://127.0.0.1:1", stages=[quick], namespace="nobody").run()


async def test_a_worker_that_can_not_have_its_slots_leaves_no_connection_open(
    producer: FlowProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @stage
    async def quick() -> None: ...

    settings = producer._settings
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / f"flowq-{os.getuid()}-{settings.namespace}").write_text("no directory")
    worker = Worker(settings.url, stages=[quick], namespace=settings.namespace, queues={"default": 1}, name="unlucky")
    with pytest.raises(SlotsUnusable):
        await worker.run()
    await closed_connections_of("flowq:worker:unlucky", producer._open.store.connection.command)


async def test_a_worker_that_can_not_be_is_refused_when_it_is_made() -> None:
    @stage
    async def quick() -> None: ...

    with pytest.raises(DefinitionError):
        Worker("redis://localhost")
    given: Any = quick
    for field in ("pipelines", "stages"):
        for wrong in (given, 5, [5]):
            with pytest.raises(InvalidValue, match=f"{field} is .*expected a list of functions"):
                Worker("redis://localhost", **cast("dict[str, Any]", {field: wrong}))
    with pytest.raises(InvalidValue, match="name"):
        Worker("redis://localhost", stages=[quick], name="two words")
    for concurrency in (0, -1, True, 10**9, cast("int", "x")):
        with pytest.raises(InvalidValue, match="concurrency"):
            Worker("redis://localhost", stages=[quick], concurrency=concurrency)
    with pytest.raises(InvalidValue, match="lease"):
        Worker("redis://localhost", stages=[quick], lease="10ms")

    async def another() -> None: ...

    other: Any = Stage(another, "quick", quick.options)
    with pytest.raises(StageNameTaken):
        Worker("redis://localhost", stages=[quick, other])


async def test_a_worker_says_at_its_start_what_it_serves_and_which_queue_no_stage_is_on(
    producer: FlowProducer, caplog: pytest.LogCaptureFixture
) -> None:
    @stage(queue="gpu")
    async def announced() -> int:
        return 1

    with caplog.at_level("INFO", logger="flowq.engine"):
        async with working(producer, announced, queues={"gpu": None, "gpo": None}):
            moved = announced.with_options(queue="gpo")
            assert await (await producer.add(moved.flow())).result(30) == 1
    assert "serves announced; queues: gpo, gpu" in caplog.text
    assert "no stage is on queue gpo but by with_options(queue=…) in a call; the stages are on: gpu" in caplog.text
