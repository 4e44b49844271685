"""What a run tells and nobody can pack, or what its user could not know to be wrong, costs that run and nothing else."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from flowq import FlowProducer, context, stage
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.exchange import holder as holders
from flowq.engine.exchange.conversation import Conversation
from flowq.engine.exchange.latest_progress import LatestProgress
from flowq.engine.run.context import StageContext
from flowq.errors import FlowCancelled, FlowFailed, InvalidValue
from flowq.model.event import Event
from flowq.model.outcome import Claim, Complete, Fail, Note, Outcome, Progress, opaque
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.engine.test_conversation import Idler, talking
from tests.engine.work import working
from tests.store.acting import Actor, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

# As os.listdir gives the name of a file whose bytes are no UTF-8.
NO_UNICODE = "caf\udce9.mp4"


class Half:
    """A number of a library: of no type that Python knows."""

    def __float__(self) -> float:
        return 0.5


class Five(Half):
    """Another one, which is whole."""

    def __index__(self) -> int:
        return 5


class Subclass(float):
    """Such as numpy's float64."""


class Raising:
    """An array of several numbers."""

    def __float__(self) -> float:
        raise RuntimeError("only one number can be converted")


async def sent(store: Store, actor: Actor, outcome: Outcome, note: Note | None, *others: Outcome) -> None:
    """Reports these in one batch, and the note with the first."""
    room = WorkerRoom({"default": ["default:z"]}, 10)
    conversation = Conversation(store, store.partitions[0], actor.id, room, Idler(), lambda: None)
    conversation.report(outcome, note)
    for other in others:
        conversation.report(other)
    async with talking(conversation):
        pass


async def opened(valkey_url: str, namespace: str) -> Store:
    """A store."""
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    return store


@pytest.mark.parametrize("amount", [2**64, -(2**63) - 1])
async def test_a_note_that_can_not_be_packed_fails_its_own_stage_and_keeps_its_log(
    valkey_url: str, namespace: str, amount: int
) -> None:
    store = await opened(valkey_url, namespace)
    actor = await Actor(store).begin()
    await store.submit([(flow_id, one_stage(attempts=3)) for flow_id in ("bad", "good")])
    by_flow = {claim.flow_id: claim for claim in await actor.claim(2)}
    note = Note(*by_flow["bad"].run, log=opaque(b"1 1 INFO said\n"), amounts=("tokens", amount))
    done = await actor.completed(by_flow["bad"])
    await sent(store, actor, done, note, await actor.completed(by_flow["good"]))
    bad, good = [await snapshots(store).snapshot(flow_id) for flow_id in ("bad", "good")]
    assert (bad.state, good.state) == ("failed", "completed")
    (run,) = bad.stage("a").history
    assert run.cause.startswith("ValueNotStorable: stage 0 of flow bad: what it told can't be stored: ")
    log = await store.connection.command("HGET", store.keys.flow("bad"), "l0")
    assert b"INFO said" in log
    await store.close()


@pytest.mark.parametrize("kind", [Complete, Fail])
async def test_an_outcome_that_can_not_be_packed_fails_its_own_stage(
    valkey_url: str, namespace: str, kind: type[Outcome]
) -> None:
    store = await opened(valkey_url, namespace)
    actor = await Actor(store).begin()
    await store.submit([(flow_id, one_stage()) for flow_id in ("bad", "good")])
    by_flow = {claim.flow_id: claim for claim in await actor.claim(2)}
    outcome: Any = await actor.completed(by_flow["bad"])
    if kind is Fail:
        outcome = Fail(*by_flow["bad"].run, opaque(b"\xc0"), NO_UNICODE)
    else:
        outcome = msgspec.structs.replace(outcome, artifacts=NO_UNICODE)
    await sent(store, actor, outcome, None, await actor.completed(by_flow["good"]))
    bad, good = [await snapshots(store).snapshot(flow_id) for flow_id in ("bad", "good")]
    assert (bad.state, good.state) == ("failed", "completed")
    assert "what it told can't be stored: 'utf-8' codec" in bad.stage("a").history[0].cause
    await store.close()


def test_progress_that_can_not_be_packed_is_left_out_and_the_others_are_told() -> None:
    latest, good = LatestProgress(), Progress("good", 0, 1, "n", 0.5, "")
    latest.keep(Progress("bad", 0, 1, "n", 0.5, NO_UNICODE))
    latest.keep(good)
    assert latest.take(is_last=True) == [good]


async def test_progress_with_a_name_that_is_no_unicode_is_shown_escaped(producer: FlowProducer) -> None:
    told = asyncio.Event()

    @stage
    async def cs_scan() -> str:
        context().progress(0.5, NO_UNICODE)
        await told.wait()
        return "done"

    async with working(producer, cs_scan):
        flow = await producer.add(cs_scan.flow())
        async with asyncio.timeout(30):
            async for event in flow.events():
                if isinstance(event, Event) and event.verb == "progressed":
                    assert event.note == r"caf\udce9.mp4"
                    break
        told.set()
        assert await flow.result(30) == "done"


@pytest.mark.parametrize(("given", "kept"), [(Half(), 0.5), (Fraction(1, 4), 0.25), (Subclass(0.75), 0.75), (10**400, 1.0)])
def test_progress_takes_numbers_of_any_library(given: Any, kept: float) -> None:
    told: list[tuple[float, str]] = []
    StageContext("f", "s", 1, 1, on_progress=lambda *what: told.append(what)).progress(given, None)
    assert told == [(kept, "")]
    assert type(told[0][0]) is float


def test_progress_that_is_not_known_stays_where_it_was() -> None:
    told: list[tuple[float, str]] = []
    run = StageContext("f", "s", 1, 1, on_progress=lambda *what: told.append(what))
    run.progress(0.5)
    for unknown in ("nan", "inf", "-inf"):
        run.progress(float(unknown), "nobody knows how far")
    run.progress(0.75)
    assert told == [(0.5, ""), *[(0.5, "nobody knows how far")] * 3, (0.75, "")]


def test_usage_takes_numbers_of_any_library() -> None:
    run = StageContext("f", "s", 1, 1)
    run.usage(tokens=Five(), seconds=Half())
    run.usage(tokens=Subclass(1.5))
    assert run.amounts == {"tokens": 6.5, "seconds": 0.5}


@pytest.mark.parametrize(
    "amounts", [{"tokens": 2**64}, {"tokens": 1e308}, {NO_UNICODE: 1}, {"a\nb": 1}, {"x": Raising()}, {"x": True}, {"x": "1"}]
)
def test_usage_that_can_not_be_counted_is_refused_where_it_is_told_and_counts_nothing(amounts: dict[str, Any]) -> None:
    run = StageContext("f", "s", 1, 1)
    with pytest.raises(InvalidValue, match="usage"):
        run.usage(before=1, **amounts)
    assert run.amounts == {}


def test_usage_is_refused_where_its_sum_can_not_be_counted() -> None:
    run = StageContext("f", "s", 1, 1)
    run.usage(tokens=10**15)
    with pytest.raises(InvalidValue, match="usage tokens is 1000000000000001; expected at most 10\\^15 in one run"):
        run.usage(tokens=1)
    assert run.amounts == {"tokens": 10**15}


async def test_an_error_that_can_not_be_shown_fails_its_stage(producer: FlowProducer) -> None:
    @stage
    async def cs_strange() -> None:
        odd: Any = ("file.py", 1, 1, 5)  # which Python's own traceback stumbles over
        raise SyntaxError("no", odd)

    async with working(producer, cs_strange):
        flow = await producer.add(cs_strange.flow())
        with pytest.raises(FlowFailed, match="SyntaxError: no"):
            await flow.result(30)


async def test_a_run_keeps_its_room_until_it_is_known_what_it_used(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where suspects run one after the other, the next one would else be in the process that this one crashes."""
    running: list[int] = []
    last_note, workers = holders.last_note, list[Any]()

    async def noting(store: Store, claim: Claim, stage_context: StageContext) -> Note | None:
        running.append(len(workers[0]._holder.running))
        return await last_note(store, claim, stage_context)

    monkeypatch.setattr(holders, "last_note", noting)

    @stage
    async def cs_meters() -> None:
        context().usage(tokens=1)

    async with working(producer, cs_meters) as worker:
        workers.append(worker)
        flow = await producer.add(cs_meters.flow())
        await flow.result(30)
    assert (running, (await flow.inspect()).usage) == ([1], {"tokens": 1})


async def test_what_people_say_of_a_cancel_or_a_pause_is_kept_whatever_it_is_made_of(producer: FlowProducer) -> None:
    @stage
    async def cs_idle() -> None: ...

    flow = await producer.add(cs_idle.flow())
    await producer.pause_queue("default", by=NO_UNICODE)
    assert await flow.pause(by=NO_UNICODE)
    assert [pause.by for pause in await producer.pauses()] == [r"caf\udce9.mp4"]
    await producer.resume_queue("default")
    assert await flow.cancel(NO_UNICODE)
    with pytest.raises(FlowCancelled) as cancelled:
        await flow.result(30)
    assert cancelled.value.reason == r"caf\udce9.mp4"
