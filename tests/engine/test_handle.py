"""A flow from its handle: result, events with their gaps, retry, cancel, artifacts, inspection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from flowq import Artifact, Backoff, FlowHandle, FlowProducer, context, pipeline, stage
from flowq.errors import CorruptState, FlowFailed, FlowNotFound, FlowTimedOut, InvalidValue, StageNotFound
from flowq.model.event import Event, Gap
from flowq.store.store import Store
from flowq.store.stored_plan import StoredPlan
from tests.artifacts.proxy import spoiling_proxy
from tests.engine.waiting import in_the_end
from tests.engine.work import Gate, outcome, told, until, working

pytestmark = pytest.mark.anyio


@stage
async def plus(number: int, other: int = 1) -> int:
    return number + other


@pipeline
def chain(number: int) -> int:
    return plus(plus(plus(number)))


PARTS = 101


@pipeline
def many(number: int) -> list[int]:
    return [plus(number) for _ in range(PARTS)]


async def test_events_come_in_order_and_end_with_the_flow(producer: FlowProducer) -> None:
    flow = await producer.add(chain(1))
    listening = asyncio.create_task(told(flow))
    async with working(producer, plus):
        assert await flow.result(30) == 4
        verbs = await listening
    assert verbs == [
        "added", "claimed plus", "completed plus", "released plus-2", "claimed plus-2", "completed plus-2",
        "released plus-3", "claimed plus-3", "completed plus-3", "completed",
    ]  # fmt: skip


async def test_the_events_of_an_ended_flow_are_told_again_from_any_number(producer: FlowProducer) -> None:
    async with working(producer, plus):
        flow = await producer.add(chain(1))
        await flow.result(30)
    whole = await told(flow)
    assert await told(flow, after=4) == whole[4:]
    assert await told(flow, after=len(whole)) == []


async def test_many_followers_see_the_same_however_their_start_meets_the_end(producer: FlowProducer) -> None:
    """Some begin before the flow ends, some in the very moment, some after; none may wait for ever."""
    async with working(producer, plus):
        flows = await producer.add_bulk(chain(number) for number in range(10))
        lists = await asyncio.gather(*(told(flow) for flow in flows for _ in range(5)))
    assert {len(verbs) for verbs in lists} == {10}


async def test_a_flow_that_ends_between_the_look_and_the_stream_is_not_waited_for(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = await producer.add(plus.flow(1))
    inspect = flow.inspect

    async def inspected_too_early() -> Any:
        snapshot = await inspect()
        async with working(producer, plus):
            await flow.result(30)
        return snapshot

    monkeypatch.setattr(flow, "inspect", inspected_too_early)
    assert (await told(flow))[-1] == "completed"


async def test_what_was_trimmed_is_told_as_a_gap(producer: FlowProducer) -> None:
    async with working(producer, plus):
        flow = await producer.add(chain(1))
        await flow.result(30)
    store = producer._open.store
    await store.connection.command("XTRIM", store.keys.tag_of(flow.id) + ":events", "MAXLEN", 1)
    events = [event async for event in flow.events()]
    assert isinstance(events[0], Gap)
    assert events[0].after == 0
    assert events[0].snapshot.state == "completed"
    numbers = [event.seq for event in events[1:] if isinstance(event, Event)]
    assert numbers == list(range(events[0].before, events[0].snapshot.seq + 1))


async def test_a_lost_stream_is_one_gap_to_the_end(producer: FlowProducer) -> None:
    async with working(producer, plus):
        flow = await producer.add(chain(1))
        await flow.result(30)
    store = producer._open.store
    await store.connection.command("DEL", store.keys.tag_of(flow.id) + ":events")
    (gap,) = [event async for event in flow.events()]
    assert isinstance(gap, Gap)
    assert (gap.after, gap.before) == (0, gap.snapshot.seq + 1)


async def test_a_claim_is_told_with_the_worker_that_inspect_shows(producer: FlowProducer) -> None:
    @stage
    async def quick() -> None: ...

    async with working(producer, quick):
        flow = await producer.add(quick.flow())
        await flow.result(30)
        (worker,) = await producer.workers()
        claimed = [event.note async for event in flow.events(after=0) if isinstance(event, Event) and event.verb == "claimed"]
    assert claimed == [worker.name] == [(await flow.inspect()).stage("quick").worker]


async def test_progress_reaches_followers_and_snapshots(producer: FlowProducer) -> None:
    gate = Gate()

    @stage
    async def slow() -> None:
        context().progress(0.25, "a quarter")
        await gate.stop_async()

    async with working(producer, slow):
        flow = await producer.add(slow.flow())
        async with asyncio.timeout(30):
            async for event in flow.events():
                if isinstance(event, Event) and event.verb == "progressed":
                    assert (event.stage, event.progress, event.note, event.seq) == ("slow", 0.25, "a quarter", 0)
                    break
        seen = (await flow.inspect()).stage("slow")
        gate.opened.set()
    assert (seen.progress, seen.message) == (0.25, "a quarter")


async def test_a_retry_runs_only_what_had_failed(producer: FlowProducer) -> None:
    runs: list[str] = []
    broken = True

    @stage
    async def good() -> int:
        runs.append("good")
        return 1

    @stage(attempts=2, backoff=Backoff.none())
    async def bad(number: int) -> int:
        runs.append("bad")
        if broken:
            raise OSError("the disk is full")
        return number + 1

    @pipeline
    def both() -> int:
        return bad(good())

    async with working(producer, good, bad):
        flow = await producer.add(both())
        assert isinstance(await outcome(flow), FlowFailed)
        broken = False
        assert await flow.retry() == 1
        assert await flow.result(30) == 2
        assert await flow.retry() == 0, "there is nothing to retry any more"
    assert runs == ["good", "bad", "bad", "bad"]
    snapshot = await flow.inspect()
    assert (snapshot.stage("bad").attempt, snapshot.stage("bad").runs) == (1, 3)
    verbs = await told(flow)
    assert verbs.count("failed") == verbs.count("completed") == 1


async def test_a_cancel_says_whether_it_was_in_time(producer: FlowProducer) -> None:
    flow = await producer.add(plus.flow(1))
    assert await flow.cancel("enough")
    assert await flow.cancel("again"), "it is cancelled, and a lost answer must not look like a refusal"
    assert (await flow.inspect()).cancel_reason == "enough"
    assert await flow.retry() == 1
    async with working(producer, plus):
        assert await flow.result(30) == 2
    assert not await flow.cancel(), "it has completed"


async def test_waiting_ends_when_it_was_said_to(producer: FlowProducer) -> None:
    flow = await producer.add(plus.flow(1))
    for seconds in (0, 0.05):
        with pytest.raises(FlowTimedOut):
            await flow.result(seconds)
    assert (await flow.inspect()).state == "ready", "the flow goes on"


async def test_a_thousand_waiters_hold_no_more_connections_than_one(producer: FlowProducer) -> None:
    flow = await producer.add(plus.flow(1))
    waiters = [asyncio.create_task(flow.result(30)) for _ in range(1_000)]
    async with working(producer, plus):
        assert set(await asyncio.gather(*waiters)) == {2}
    clients = await producer._open.store.connection.command("CLIENT", "LIST")
    listed = clients if isinstance(clients, list) else clients.decode().splitlines()
    mine = [client for client in listed if "flowq:producer" in str(client)]
    assert len(mine) <= 6


async def test_a_flow_that_does_not_exist_is_said_so_by_every_question(producer: FlowProducer) -> None:
    flow: FlowHandle[Any] = producer.flow("nowhere")
    for question in (flow.inspect, flow.result, flow.cancel, flow.retry, lambda: told(flow), lambda: flow.artifact("a")):
        with pytest.raises(FlowNotFound, match="nowhere"):
            await question()


async def test_a_handle_does_not_outlive_its_producer(producer: FlowProducer, valkey_url: str) -> None:
    namespace = producer._settings.namespace
    async with FlowProducer(valkey_url, namespace=namespace) as other:
        flow = await other.add(plus.flow(1))
    for question in (flow.inspect, flow.result, flow.cancel, flow.retry, lambda: told(flow), lambda: flow.artifact("a")):
        with pytest.raises(InvalidValue, match="FlowProducer is 'not open'"):
            await question()
    async with other:
        assert (await flow.inspect()).state == "ready", "it follows its producer"


async def test_a_waiter_whose_producer_is_closed_is_told(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowq.engine.flow.handle._POLL_SECONDS", 0.05)
    flow = await producer.add(plus.flow(1))
    waiting = [asyncio.create_task(question) for question in (flow.result(), told(flow))]

    async def is_followed() -> bool:
        return (await flow.inspect()).state == "ready" and bool(producer._while_open().feed._followers)

    await in_the_end(is_followed)
    await producer.close()
    for refused in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(refused, InvalidValue)


async def test_only_the_first_wait_for_a_flow_may_be_for_the_servers_word_that_it_will_tell(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = await producer.add(plus.flow(1))
    async with working(producer, plus):
        assert await flow.result(30) == 2
    await flow._backend.wakeups.__aexit__()  # nobody listens any more
    monkeypatch.setattr("flowq.engine.flow.handle._LISTENS_SECONDS", 3600)
    assert await asyncio.wait_for(flow.result(), 30) == 2


async def test_who_waits_gets_the_result_with_the_end(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One question, when the server has told that it has ended."""
    apart: list[str] = []
    is_known = asyncio.Event()

    async def made_of(self: FlowHandle[Any], digest: str) -> list[int]:
        found = await known_by(self, digest)
        is_known.set()
        return found

    async def results(self: Store, flow_id: str, indexes: Iterable[int]) -> dict[int, bytes]:
        apart.append(flow_id)
        return await read_apart(self, flow_id, indexes)

    known_by, read_apart = FlowHandle._made_of, Store.results
    monkeypatch.setattr(FlowHandle, "_made_of", made_of)
    monkeypatch.setattr(Store, "results", results)
    flow = await producer.add(chain(1))
    waiting = asyncio.create_task(flow.result(30))
    await asyncio.wait_for(is_known.wait(), 30)
    async with working(producer, plus):
        assert await waiting == 4
    assert apart == []


async def test_a_result_of_more_parts_than_are_read_with_the_end(producer: FlowProducer) -> None:
    flow = await producer.add(many(1))
    waiting = asyncio.create_task(flow.result(30))
    async with working(producer, plus):
        assert await waiting == [2] * PARTS


async def test_what_a_running_flow_is_made_of_may_be_unknown_to_who_waits(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the plan of a flow whose place another has just taken: how it ended is told when it has."""
    asked = asyncio.Event()

    async def plan(self: Store, flow_id: str, digest: str) -> StoredPlan:
        if asked.is_set():
            return await known_plan(self, flow_id, digest)
        asked.set()
        raise CorruptState(flow_id, "its plan", "made so by this test")

    known_plan = Store.plan
    flow = await producer.add(chain(1))
    monkeypatch.setattr(Store, "plan", plan)
    waiting = asyncio.create_task(flow.result(30))
    await asyncio.wait_for(asked.wait(), 30)
    async with working(producer, plus):
        assert await waiting == 4


async def test_a_flow_of_another_pipeline_is_not_read_as_one_of_this(producer: FlowProducer) -> None:
    await producer.add(plus.flow(1), id="one")
    flow = producer.flow("one", chain)
    with pytest.raises(InvalidValue, match="the pipeline of flow 'one' is 'plus'; expected 'chain'"):
        await flow.result(30)
    assert (await flow.inspect()).pipeline == "plus"
    with pytest.raises(FlowNotFound):
        await producer.flow("none", chain).result(30)
    for no_pipeline in (plus, "chain"):
        with pytest.raises(InvalidValue, match="expected the pipeline itself"):
            producer.flow("one", no_pipeline)  # type: ignore[call-overload]
    await producer.add(chain(1), id="two")
    async with working(producer, plus):
        assert await producer.flow("two", chain).result(30) == 4


@pytest.mark.parametrize("after", [-1, "1", None, True])
async def test_no_event_has_such_a_number(producer: FlowProducer, after: Any) -> None:
    flow = await producer.add(plus.flow(1))
    with pytest.raises(InvalidValue, match="after"):
        await told(flow, after)


async def test_artifacts_are_found_by_stage_and_name(producer: FlowProducer) -> None:
    @stage
    async def write_down() -> Artifact:
        async with context().new_artifact("a.txt") as first:
            await first.write(b"one")
        async with context().new_artifact("b.txt") as second:
            await second.write(b"two")
        return second.artifact

    async with working(producer, write_down):
        flow = await producer.add(write_down.flow())
        published = await flow.result(30)
    assert (await flow.artifact("wri*", "a.txt")).size == 3
    with published.open() as stream:
        assert stream.read() == b"two"
    with pytest.raises(InvalidValue, match=r"a\.txt"):
        await flow.artifact("write_down")
    with pytest.raises(StageNotFound):
        await flow.artifact("nothing")


async def test_only_artifacts_of_the_run_that_completed_are_shown(producer: FlowProducer) -> None:
    @stage(attempts=2, backoff=Backoff.none())
    async def write_down() -> str:
        async with context().new_artifact("a.txt") as sink:
            await sink.write(f"attempt {context().attempt}".encode())
        if context().attempt == 1:
            raise OSError("after the upload")
        return "done"

    async with working(producer, write_down):
        flow = await producer.add(write_down.flow())
        await flow.result(30)
    artifact = await flow.artifact("write_down")
    assert "/2-" in artifact.key
    with producer.storage.open(artifact) as stream:
        assert stream.read() == b"attempt 2"


async def test_a_result_of_another_type_than_declared_is_damage(producer: FlowProducer) -> None:
    async with working(producer, plus):
        flow = await producer.add(plus.flow(1))
        await flow.result(30)
    store = producer._open.store
    await store.connection.command("HSET", store.keys.flow(flow.id), "r0", b"\xa4text")
    with pytest.raises(CorruptState):
        await flow.result(1)


async def test_two_retries_at_once_are_one_retry(producer: FlowProducer) -> None:
    runs: list[int] = []

    @stage
    async def bad() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise OSError("once")

    async with working(producer, bad):
        flow = await producer.add(bad.flow())
        await outcome(flow)
        answers = await asyncio.gather(*(flow.retry() for _ in range(5)), return_exceptions=True)
        await flow.result(30)
    assert sorted(answers) == [0, 0, 0, 0, 1]  # type: ignore[type-var]
    assert len(runs) == 2


async def test_a_retry_whose_answer_was_lost_says_what_it_did(producer: FlowProducer, namespace: str) -> None:
    lost: list[bytes] = []

    def lose_the_answer(_request: bytes, reply: bytes) -> bytes | None:
        if lost or not reply.startswith(b"*2\r\n$7\r\nretried\r\n"):
            return reply
        lost.append(reply)
        return None

    @stage
    async def bad() -> None:
        raise OSError("always")

    with spoiling_proxy(producer._settings.url) as proxy:
        proxy.spoil = lose_the_answer
        async with working(producer, bad), FlowProducer(proxy.url, namespace=namespace) as far:
            flow = await far.add(bad.flow())
            await outcome(flow)
            assert await flow.retry() == 1
            await outcome(flow)
    assert len(lost) == 1
    assert (await producer.flow(flow.id).inspect()).stage("bad").runs == 2, "it was retried once"


async def test_a_snapshot_says_why_each_stage_waits(producer: FlowProducer) -> None:
    @stage(attempts=3, backoff=Backoff.fixed("60s"))
    async def flaky() -> int:
        raise OSError("busy")

    @stage
    async def after(number: int) -> int:
        return number

    @pipeline
    def both() -> int:
        return after(flaky())

    flow = await producer.add(both())
    waiting = await flow.inspect()
    assert [stage.reason.code for stage in waiting.graph if stage.reason] == ["no_worker", "children"]
    async with working(producer, flaky, after):
        backing_off = await until(flow, lambda snapshot: snapshot.stage("flaky").state == "scheduled")
    reason = backing_off.stage("flaky").reason
    assert reason is not None
    assert reason.code == "back_off"
    assert "attempt 2 of 3" in reason.sentence
    assert "OSError: busy" in reason.sentence
