"""Why a stage is not running: each code there is, seen in the API, in `inspect`, in JSON and by who follows the flow."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
import pytest

from flowq import Backoff, FlowHandle, FlowProducer, Unrecoverable, limit, pipeline, stage
from flowq.cli.documents import envelope, json_text
from flowq.cli.render.flow import flow_view
from flowq.cli.render.ink import painted
from flowq.cli.render.screen import Screen
from flowq.engine.flow import following
from flowq.errors import FlowFailed
from flowq.model.event import Event
from flowq.model.limit import LimitWait
from flowq.model.reasons import reason_for
from flowq.model.snapshot import Reason
from flowq.pipeline import Dedup
from tests.conformance.scene import gate
from tests.engine.work import PATIENCE, until, working
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers lose patience soon."""
    monkeypatch.setattr(following, "QUIET_SECONDS", 0.05)


@stage
async def why_held(number: int) -> int:
    await gate.stop_async()
    return number


@stage
async def why_broken(number: int) -> int:
    raise Unrecoverable("no such thing")


@stage(attempts=3, backoff=Backoff.fixed("1h"))
async def why_flaky(number: int) -> int:
    raise OSError("disk full")


@stage
async def why_last(numbers: list[int]) -> int:
    return sum(numbers)


@stage(limits=[limit("why_rate")])
async def why_limited(number: int) -> int:
    return number


@pipeline
def why_children(number: int) -> int:
    return why_last([why_held(number)])


@pipeline
def why_failed(number: int) -> int:
    return why_last([why_broken(number), why_held(number)])


@pipeline
def why_ended(number: int) -> int:
    return why_last([why_broken(number)])


@pipeline
def why_map(numbers: list[int]) -> int:
    return why_last(why_held.with_options(at_once=1).map(numbers))


EVERY = (why_held, why_broken, why_flaky, why_last, why_limited)


class Scene(NamedTuple):
    """A flow of which one stage does not run, and what is said of it: in how many words there is room for, in the view."""

    flow: FlowHandle[Any]
    stage: str
    sentence: str
    on: tuple[str, ...] = ()
    shown: str = ""


@contextlib.asynccontextmanager
async def children(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY):
        flow = await producer.add(why_children(1))
        await gate.until_arrived()
        yield Scene(flow, "why_last", "waits for why_held", ("why_held",))
        gate.opened.set()


@contextlib.asynccontextmanager
async def child_failed(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY):
        flow = await producer.add(why_failed(1))
        await until(flow, lambda now: now.stage("why_broken").state == "failed" and now.stage("why_held").state == "running")
        yield Scene(flow, "why_last", "can't run: why_broken has failed", ("why_broken",))
        gate.opened.set()


@contextlib.asynccontextmanager
async def flow_ended(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY):
        flow = await producer.add(why_ended(1))
        with pytest.raises(FlowFailed):
            await flow.result(PATIENCE)
        yield Scene(flow, "why_last", "can't run: why_broken has failed", ("why_broken",))


@contextlib.asynccontextmanager
async def no_worker(producer: FlowProducer) -> AsyncIterator[Scene]:
    flow = await producer.add(why_held.with_options(queue="gpu").flow(1))
    yield Scene(flow, "why_held", "no worker serves queue gpu", ("gpu",))


@contextlib.asynccontextmanager
async def busy(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY, concurrency=1):
        await producer.add(why_held.flow(1))
        await gate.until_arrived()
        flow = await producer.add(why_held.flow(2))
        yield Scene(flow, "why_held", "queue default: waits for a free slot of 1 worker process", ("default",))
        gate.opened.set()


@contextlib.asynccontextmanager
async def back_off(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY):
        flow = await producer.add(why_flaky.flow(1))
        await until(flow, lambda now: now.stage("why_flaky").state == "scheduled")
        yield Scene(flow, "why_flaky", "attempt 2 of 3 begins in ", shown="try 2 in 1h after OSError: disk full")


@contextlib.asynccontextmanager
async def scheduled(producer: FlowProducer) -> AsyncIterator[Scene]:
    yield Scene(await producer.add(why_held.flow(1), delay="1h"), "why_held", "begins in ")


@contextlib.asynccontextmanager
async def debounced(producer: FlowProducer) -> AsyncIterator[Scene]:
    flow = await producer.add(why_held.flow(1), dedup=Dedup("k", debounce="1h"))
    yield Scene(flow, "why_held", "debounced until ")


@contextlib.asynccontextmanager
async def other_flow(producer: FlowProducer) -> AsyncIterator[Scene]:
    first, last = [await producer.add(why_held.flow(number), dedup=Dedup("k", keep_last=True)) for number in (1, 2)]
    yield Scene(last, "why_held", f"waits until flow {first.id} has ended", (first.id,))


@contextlib.asynccontextmanager
async def paused(producer: FlowProducer) -> AsyncIterator[Scene]:
    await producer.pause_queue("default", by="ops")
    async with working(producer, *EVERY):
        yield Scene(await producer.add(why_held.flow(1)), "why_held", "queue default is paused since ", ("default",))
    await producer.resume_queue("default")


@contextlib.asynccontextmanager
async def suspect(producer: FlowProducer) -> AsyncIterator[Scene]:
    # A process in which two ran together has crashed, and one is busy that could run one of them alone.
    store = producer._open.store
    flow, other = [await producer.add(why_held.flow(number)) for number in range(2)]
    actor = await Actor(store, routes=("why_held",)).begin()
    assert len(await actor.claim(2)) == 2
    for tag in store.partitions:
        await store.rescue(tag, actor.id, "killed by SIGKILL", is_crash=True)
    await other.cancel()
    witness = await Actor(store, routes=("why_held",)).begin()
    yield Scene(flow, "why_held", "its process died under it, so it waits for a process in which it can run alone", ("default",))
    for tag in store.partitions:
        await store.rescue(tag, witness.id, "ended", is_crash=False)


@contextlib.asynccontextmanager
async def items(producer: FlowProducer) -> AsyncIterator[Scene]:
    async with working(producer, *EVERY):
        flow = await producer.add(why_map([1, 2, 3]))
        await gate.until_arrived()
        yield Scene(flow, "why_held", "waits for 1 running and 2 waiting of 3", shown="1 ▶ 2 ○")
        gate.opened.set()


@contextlib.asynccontextmanager
async def rate_limited(producer: FlowProducer) -> AsyncIterator[Scene]:
    await producer.set_limit("why_rate", rate="1/h")
    async with working(producer, *EVERY):
        await (await producer.add(why_limited.flow(1))).result(PATIENCE)
        flow = await producer.add(why_limited.flow(2))
        await until(flow, lambda now: now.graph[0].state == "running" and now.graph[0].reason is not None)
        yield Scene(flow, "why_limited", "waits ", ("why_rate",), shown="for limit why_rate, until ")
        await flow.cancel()


SCENES: dict[str, Callable[[FlowProducer], AbstractAsyncContextManager[Scene]]] = {
    scene.__name__: scene
    for scene in (
        children,
        child_failed,
        flow_ended,
        no_worker,
        busy,
        back_off,
        scheduled,
        debounced,
        other_flow,
        paused,
        suspect,
        items,
        rate_limited,
    )
}
# Of an item, which is no stage of the graph; and those that tests of their own walk.
ELSEWHERE = {"at_once", "signal", "sleep", "spawned", "queue_limit", "tenant_limit", "no_room", "room_used", "cache_pending"}


@pytest.mark.parametrize("code", SCENES)
async def test_a_stage_that_does_not_run_says_why(producer: FlowProducer, code: str) -> None:
    async with SCENES[code](producer) as scene:
        snapshot = await scene.flow.inspect()
        reason = snapshot.stage(scene.stage).reason
        assert reason is not None
        assert (reason.code, reason.on) == (code, scene.on)
        assert reason.sentence.startswith(scene.sentence)
        assert "\n" not in reason.sentence
        assert f'"code":"{code}"' in json_text(envelope("flow", snapshot), pretty=False)
        assert (scene.shown or scene.sentence) in painted(flow_view(snapshot, Screen(width=200)), colour=False)
        if not snapshot.is_final:
            assert (await held(scene.flow, scene.stage)).code == code


async def test_a_stage_that_waits_for_a_limit_runs_and_says_at_each_look_how_long_it_still_does(producer: FlowProducer) -> None:
    async with rate_limited(producer) as scene:
        snapshot = await scene.flow.inspect()
        stage_now = snapshot.stage(scene.stage)
        assert (stage_now.state, stage_now.message, snapshot.eta_seconds) == ("running", "", None)
        sentence = stage_now.reason.sentence if stage_now.reason else ""
        assert re.fullmatch(r"waits (1h|59m|60m)[^,]* for limit why_rate, until [\d-]{10} [\d:]{8} UTC", sentence)
        later = msgspec.structs.replace(stage_now, message=LimitWait("why_rate", snapshot.at + 60_000).message)
        told = [reason_for(later, {}, (), "running", snapshot.at + ms, is_suspect=False, lost={}) for ms in (0, 58_000, 60_000)]
        assert [reason and reason.sentence.partition(" for ")[0] for reason in told] == ["waits 1m", "waits 2s", None]


async def test_a_follower_reads_the_wait_for_a_limit_as_a_sentence(producer: FlowProducer) -> None:
    notes: list[str] = []
    async with rate_limited(producer) as scene, asyncio.timeout(PATIENCE):
        async for event in scene.flow.events():
            if isinstance(event, Event) and event.verb in ("progressed", "held"):
                notes.append(event.note)
                if event.verb == "held":
                    break
    assert notes
    assert all(re.fullmatch(r"waits (\S+ )*for limit why_rate,? until .* UTC", note) for note in notes), notes


async def test_an_item_that_does_not_run_says_why(producer: FlowProducer) -> None:
    async with items(producer) as scene:
        reasons = [item.reason for item in await scene.flow.items("why_held")]
        assert reasons[0] is None
        assert [reason.code for reason in reasons[1:] if reason is not None] == ["at_once"] * 2


async def test_a_reason_is_told_once_and_again_when_it_is_another(producer: FlowProducer) -> None:
    flow = await producer.add(why_children(1))
    told: list[tuple[str | None, str]] = []
    news: asyncio.Queue[tuple[str | None, str]] = asyncio.Queue()

    async def follow() -> None:
        async for event in flow.events():
            if isinstance(event, Event) and event.reason is not None:
                assert (event.verb, event.seq, event.note) == ("held", 0, event.reason.sentence)
                told.append((event.stage, event.reason.code))
                news.put_nowait(told[-1])

    follower = asyncio.create_task(follow())
    async with asyncio.timeout(PATIENCE):
        assert await news.get() == ("why_held", "no_worker")
        assert await news.get() == ("why_last", "children")
        await producer.pause_queue("default")
        async with working(producer, *EVERY):
            assert await news.get() == ("why_held", "paused")
            await producer.resume_queue("default")
            await gate.until_arrived()
            gate.opened.set()
            await follower
    assert told[3:] in ([], [("why_held", "busy")]), "for a moment it may be seen ready, before a worker has it"


def test_every_code_is_walked_here_or_elsewhere() -> None:
    (listed,) = re.findall(r" code: (.*?)\.\n", inspect.getdoc(Reason) or "", flags=re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) - ELSEWHERE == set(SCENES)


async def held(flow: FlowHandle[Any], name: str) -> Reason:
    """What somebody hears of a stage who follows its flow."""
    async with asyncio.timeout(PATIENCE):
        async for event in flow.events():
            if isinstance(event, Event) and event.verb == "held" and event.stage == name:
                assert event.reason is not None
                return event.reason
    raise AssertionError("the flow ended")
