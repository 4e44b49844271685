"""What an idle worker asks of the server, counted, and how duties hear that they are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import redis

from flowq import FlowProducer, stage
from flowq.engine.duties.hints import Hints, WhenNeeded
from flowq.engine.run.limiter import Limiter
from flowq.model.exchanged import House
from flowq.store.keys import CLOSING, FIRINGS, HOLDERS
from flowq.store.limits import Limits
from flowq.store.store import Store
from flowq.store.wire import HolderInfo
from tests.engine.supervised import written
from tests.engine.test_supervisor import supervised
from tests.engine.work import PATIENCE, working
from tests.servers import running_valkey
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio

POLLS = 8
QUIET = House(b"", 0, 0, 0)
LIMITED = """
from flowq import limit, stage

@stage
async def limited_in_a_child() -> str:
    async with limit("of-one-child"):
        return "done"
"""


@stage
async def looked_for_by_nobody(n: int) -> int:
    """There is no flow of it."""
    return n


@stage
async def limited_in_a_child() -> str:
    """Does in a child what its module there says."""
    raise AssertionError


class Calls:
    """Counts calls of a method, such as exchanges, which an idle worker has once a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.count, self.news, called = 0, asyncio.Event(), getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            self.news.set()
            return called(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    async def until(self, count: int) -> None:
        """Waits for so many."""
        async with asyncio.timeout(PATIENCE):
            while self.count < count:
                self.news.clear()
                await self.news.wait()


async def test_an_idle_worker_sends_little_more_than_its_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside it the lease is renewed; what comes once a minute is left out."""
    monkeypatch.setattr("flowq.engine.worker.worker._PRUNE_SECONDS", 3_600)
    polls = Calls(monkeypatch, Store, "exchange")
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        async with FlowProducer(url, namespace="idle") as producer, working(producer, looked_for_by_nobody):
            await polls.until(6)  # what happens once at the start is over
            before, first = client.info("stats")["total_reads_processed"], polls.count
            await polls.until(first + POLLS)
            reads = client.info("stats")["total_reads_processed"] - before
    assert reads / POLLS <= 2


async def test_all_processes_of_an_idle_worker_send_little_more_than_one_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child for suspects asks four times less often, and none but the one that polls asks whether limits were set."""
    monkeypatch.setattr("flowq.engine.worker.worker._PRUNE_SECONDS", 3_600)
    hears = Calls(monkeypatch, Hints, "hear")
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        async with FlowProducer(url, namespace="idle") as producer, supervised(producer, written(tmp_path)):
            await hears.until(6)  # what happens once at the start is over
            before, first = _counted(client), hears.count
            await hears.until(first + POLLS)
            reads, looks_for_limits = (after - count for after, count in zip(_counted(client), before, strict=True))
    assert reads / POLLS <= 2.4
    assert not looks_for_limits


def _counted(client: redis.Redis) -> tuple[int, int]:
    """What was sent so far, and how often somebody asked for the names of limits."""
    looks = client.info("commandstats").get("cmdstat_smembers", {"calls": 0})["calls"]
    return client.info("stats")["total_reads_processed"], looks


async def test_a_child_is_told_what_another_one_has_heard_and_does_not_tell_it_on() -> None:
    told: list[tuple[str, House]] = []
    hints = Hints(["a"], lambda tag, house: told.append((tag, house)))
    hints.hear("a", QUIET)
    assert not hints.is_due("a")
    assert hints.houses == [QUIET]
    assert not told
    hints.tell("a", QUIET)
    assert told == [("a", QUIET)]


async def test_permits_are_renewed_for_the_children_that_use_limits(
    producer: FlowProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[set[str]] = []
    news = asyncio.Event()

    async def noted(_: Limits, lease_ms: int, holders: Iterable[str], **options: Any) -> None:
        renewed.append(set(holders))
        news.set()

    monkeypatch.setattr(Limits, "extend", noted)
    await producer.set_limit("of-one-child", concurrency=1)
    async with supervised(producer, written(tmp_path, LIMITED), lease_ms=1_000) as supervisor:
        assert not renewed
        flow = await producer.add(limited_in_a_child.flow())
        assert await flow.result(PATIENCE) == "done"
        await asyncio.wait_for(news.wait(), PATIENCE)
        assert renewed[0] == {supervisor._nurses[0].holder}


async def test_that_permits_are_asked_for_is_told_before_each_time(producer: FlowProducer) -> None:
    """A stage that has got one may hold its loop for longer than the lease: later would be too late."""
    store, told = producer._open.store, list[int]()
    limiter = Limiter(store, (await Actor(store).begin()).id, lambda: told.append(limiter.asked))
    assert not limiter.asked
    await limiter.lease_ms()
    await limiter.lease_ms()
    assert told == [1, 2]


class Noted:
    """A duty that notes that it was done."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    async def run_once(self) -> None:
        """Notes it."""
        self.done.set()


async def test_a_duty_waits_until_it_is_said_that_there_is_something_to_do() -> None:
    hints, duty = Hints(["a", "b"]), Noted()
    hints.tell("a", QUIET)
    hints.tell("b", QUIET)
    once = asyncio.create_task(WhenNeeded(duty, hints, lambda house: house.late > 0).run_once())
    hints.tell("b", House(b"", 0, 1, 1))
    assert not await asyncio.wait_for(asyncio.shield(_has_begun(once)), PATIENCE)
    hints.tell("b", House(b"", 1, 0, 0))
    await asyncio.wait_for(once, PATIENCE)
    assert duty.done.is_set()


async def _has_begun(once: asyncio.Task[None]) -> bool:
    """Whether it is done, after it could have been."""
    for _ in range(5):
        await asyncio.sleep(0)
    return once.done()


async def test_a_duty_that_hears_nothing_of_a_partition_asks_by_itself() -> None:
    hints, duty = Hints(["a", "b"]), Noted()
    hints.tell("a", QUIET)
    await asyncio.wait_for(WhenNeeded(duty, hints, lambda house: house.late > 0).run_once(), PATIENCE)
    assert duty.done.is_set()


async def _house(store: Store, seq: int) -> House | None:
    answer = await store.exchange(store.partitions[0], "h", 0, seq, f"n{seq}", [], [], [], 0, parks=False, looks=True)
    return answer.house if answer is not None else None


async def test_an_exchange_tells_what_there_is_for_duties(producer: FlowProducer) -> None:
    store, tag = producer._open.store, producer._open.store.partitions[0]
    await store.register(tag, "h", 15_000, HolderInfo("w", (), (), (), 1))
    assert await _house(store, 1) == QUIET
    await store.connection.commands(
        ("ZADD", tag + HOLDERS, 1, "gone"), ("ZADD", tag + CLOSING, 0, "*1:f"), ("ZADD", tag + FIRINGS, 1, "nightly")
    )
    assert await _house(store, 2) == House(b"", 1, 1, 1)


async def test_an_exchange_tells_that_limits_were_set_or_removed(producer: FlowProducer) -> None:
    store, tag = producer._open.store, producer._open.store.partitions[0]
    await store.register(tag, "h", 15_000, HolderInfo("w", (), (), (), 1))
    await producer.set_limit("api", concurrency=1)
    seen = [await _house(store, 1)]
    await producer.set_limit("api", concurrency=2)
    seen.append(await _house(store, 2))
    await producer.remove_limit("api")
    seen.append(await _house(store, 3))
    assert len({house.limits for house in seen if house is not None}) == 3


async def test_what_is_damaged_counts_as_something_to_do_and_stages_go_on(producer: FlowProducer) -> None:
    store, tag = producer._open.store, producer._open.store.partitions[0]
    await store.register(tag, "h", 15_000, HolderInfo("w", (), (), (), 1))
    await store.connection.command("SET", tag + FIRINGS, "rubbish")
    house = await _house(store, 1)
    assert house is not None
    assert house.firings == 1
