"""How long logs and events are kept, which may be shorter or longer than flows are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.errors import FlowFailed
from flowq.store.keys import EVENTS, UNLOGGED
from flowq.store.store import Store
from flowq.store.views import Views
from tests.conformance.after_the_end import pruner_of
from tests.conformance.scene import gate
from tests.engine.waiting import in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000
log = logging.getLogger("kept")


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    """Everything is logged."""
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)


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


async def test_logs_may_go_before_their_flow(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, kl_list, kl_item, kl_held):
        mapped, held = await producer.add(kl_mapped(3), id="mapped"), await producer.add(kl_held.flow(1), id="held")
        bad = await producer.add(kl_item.flow(13), id="bad")
        assert await mapped.result(30) == [0, 1, 2]
        with pytest.raises(FlowFailed):
            await bad.result(30)
        await gate.until_arrived()
        await in_the_end(held.logs)
        await pruner_of(producer).run_once()
        assert (len(await mapped.logs()), len(await bad.logs())) == (4, 1), "as long as their flow, if nothing is said"
        await pruner_of(producer, logs_ms=HOUR_MS).run_once()
        assert (len(await mapped.logs()), len(await bad.logs())) == (4, 1), "not yet"
        for tag in store.partitions:
            await store.connection.command("DEL", tag + UNLOGGED)
        await pruner_of(producer, logs_ms=-2 * HOUR_MS).run_once()
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


@pytest.mark.parametrize(("keep", "is_trimmed"), [({}, True), ({"events_ms": 24 * HOUR_MS}, False)])
async def test_events_are_kept_as_long_as_the_settings_say(producer: FlowProducer, keep: Any, is_trimmed: bool) -> None:
    store = producer._open.store
    streams = await with_old_events(store, 2 * HOUR_MS)
    await producer.add(kl_held.flow(1), id="later")
    await pruner_of(producer, **keep).run_once()
    lengths = [await store.connection.command("XLEN", stream) for stream in streams]
    assert [length < 300 for length in lengths] == [is_trimmed] * len(streams), lengths


async def test_so_many_entries_of_events_are_kept_as_the_settings_say(producer: FlowProducer) -> None:
    store = producer._open.store
    streams = await with_old_events(store, HOUR_MS // 2)
    await pruner_of(producer).run_once()
    assert [await store.connection.command("XLEN", stream) for stream in streams] == [300] * len(streams)
    await pruner_of(producer, events_most=100).run_once()
    # The server trims whole blocks of some hundred.
    assert all([await store.connection.command("XLEN", stream) <= 200 for stream in streams])
