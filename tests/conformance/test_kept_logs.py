"""How long logs and events are kept, which may be shorter or longer than flows are."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.engine.duties.duties import Pruner
from flowq.errors import FlowFailed
from flowq.settings import KeepSettings
from flowq.store.keys import EVENTS, UNLOGGED
from flowq.store.store import Store
from flowq.store.views import Views
from tests.engine.work import Gate, working

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
log = logging.getLogger("kept")
gate = Gate()


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    """Everything is logged, and the gate is closed."""
    gate.__init__()
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)
    gate.opened.set()


@stage
async def kl_list(count: int) -> list[int]:
    log.info("a list of %d", count)
    return list(range(count))


@stage
async def kl_item(number: int) -> int:
    log.info("item %d", number)
    if number == 13:
        raise ValueError("no luck")
    return number


@stage
async def kl_held(number: int) -> int:
    log.info("held %d", number)
    await gate.stop_async()
    return number


@pipeline
def kl_mapped(count: int) -> list[int]:
    return kl_item.map(kl_list(count))


async def pruned(store: Store, keep: KeepSettings) -> None:
    """One pass of the duty under these settings."""
    await Pruner(store, Views(store), keep=keep).run_once()


async def test_logs_may_go_before_their_flow(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, kl_list, kl_item, kl_held):
        mapped, held = await producer.add(kl_mapped(3), id="mapped"), await producer.add(kl_held.flow(1), id="held")
        bad = await producer.add(kl_item.flow(13), id="bad")
        assert await mapped.result(30) == [0, 1, 2]
        with pytest.raises(FlowFailed):
            await bad.result(30)
        await gate.until_arrived()
        while len(await held.logs()) == 0:  # each turn is a round trip
            pass
        await pruned(store, KeepSettings())
        assert (len(await mapped.logs()), len(await bad.logs())) == (4, 1), "as long as their flow, if nothing is said"
        await pruned(store, KeepSettings(logs_ms=HOUR_MS))
        assert (len(await mapped.logs()), len(await bad.logs())) == (4, 1), "not yet"
        for tag in store.partitions:
            await store.connection.command("DEL", tag + UNLOGGED)
        await pruned(store, KeepSettings(logs_ms=-2 * HOUR_MS))
        assert (list(await mapped.logs()), list(await bad.logs())) == ([], [])
        assert len(await held.logs()) == 1, "it has not ended"
        assert await mapped.result() == [0, 1, 2]
        gate.opened.set()
        assert await held.result(30) == 1


async def with_old_events(store: Store, age_ms: int, count: int = 300) -> list[str]:
    """The event streams with so many old entries."""
    streams = [tag + EVENTS for tag in store.partitions]
    at = await Views(store).now() - age_ms
    for stream in streams:
        await store.connection.command("DEL", stream)
        await store.connection.commands(*(("XADD", stream, f"{at + number}-0", "b", b"\x90") for number in range(count)))
    return streams


@pytest.mark.parametrize(("keep", "is_trimmed"), [(KeepSettings(), True), (KeepSettings(events_ms=24 * HOUR_MS), False)])
async def test_events_are_kept_as_long_as_the_settings_say(producer: FlowProducer, keep: KeepSettings, is_trimmed: bool) -> None:
    store = producer._open.store
    streams = await with_old_events(store, 2 * HOUR_MS)
    await producer.add(kl_held.flow(1), id="later")
    await pruned(store, keep)
    lengths = [await store.connection.command("XLEN", stream) for stream in streams]
    assert [length < 300 for length in lengths] == [is_trimmed] * len(streams), lengths


async def test_so_many_entries_of_events_are_kept_as_the_settings_say(producer: FlowProducer) -> None:
    store = producer._open.store
    streams = await with_old_events(store, HOUR_MS // 2)
    await pruned(store, KeepSettings())
    assert [await store.connection.command("XLEN", stream) for stream in streams] == [300] * len(streams)
    await pruned(store, KeepSettings(events_most=100))
    # The server trims whole blocks of some hundred.
    assert all([await store.connection.command("XLEN", stream) <= 200 for stream in streams])
