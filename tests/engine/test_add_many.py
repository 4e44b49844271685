"""Adding more flows than memory has room for: what is held is counted."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from flowq import FlowHandle, FlowProducer, stage
from flowq.engine.client import adding
from flowq.engine.client.producer import BULK
from flowq.errors import FlowConflict, FlowqError, InvalidValue, NotAFlow
from flowq.model.spec import FlowSpec

pytestmark = pytest.mark.anyio

MANY = 20_000


@stage
async def many_echo(text: str) -> str:
    return text


def specs(count: int) -> Iterator[FlowSpec[str]]:
    for number in range(count):
        yield many_echo.flow(f"{number:0600}").with_options(id=f"n{number}")


def alive() -> int:
    """How many flows and handles there are in this process."""
    return sum(isinstance(found, FlowSpec | FlowHandle) for found in gc.get_objects())


async def test_twenty_thousand_flows_are_added_while_few_of_them_are_held(producer: FlowProducer) -> None:
    """The objects are counted, and the memory: the arguments alone, of all flows, are more than may be held."""
    made = added = 0

    async def counted() -> AsyncIterator[FlowSpec[str]]:
        nonlocal made
        for spec in specs(MANY):
            assert made - added <= BULK
            made += 1
            yield spec

    async for _ in producer.add_many(specs(2 * BULK)):  # what is kept once
        pass
    before, peaks = alive(), [0]
    tracemalloc.start()
    try:
        async for handle in producer.add_many(counted()):
            assert handle.id == f"n{added}"
            added += 1
            if added % 10_000 == 0:
                peaks.append(tracemalloc.get_traced_memory()[1])
                assert alive() - before <= 3 * BULK
                tracemalloc.reset_peak()  # the list of all objects is larger than what is measured
    finally:
        tracemalloc.stop()
    assert added == made == MANY
    assert 0 < max(peaks) < 600 * MANY / 2
    assert (await producer.flow(f"n{MANY - 1}").inspect()).state == "ready"


@pytest.mark.parametrize("is_async", [False, True])
async def test_flows_come_from_any_iterable(producer: FlowProducer, *, is_async: bool) -> None:
    async def later() -> AsyncIterator[FlowSpec[str]]:
        for spec in specs(2 * BULK + 1):
            yield spec

    source = later() if is_async else specs(2 * BULK + 1)
    handles = [handle async for handle in producer.add_many(source)]
    assert [handle.id for handle in handles] == [f"n{number}" for number in range(2 * BULK + 1)]
    again = await producer.add_bulk(later() if is_async else specs(2 * BULK + 1))
    assert {handle.is_new for handle in handles} == {True}
    assert {handle.is_new for handle in again} == {False}


async def test_who_leaves_the_loop_has_added_what_was_in_the_same_call_and_no_more(producer: FlowProducer) -> None:
    source = specs(10 * BULK)
    async with aclosing(cast("Any", producer.add_many(source))) as handles:
        async for _ in handles:
            break
    assert len(await producer.list(limit=1_000)) == BULK
    assert next(source).options.id == f"n{BULK}"


async def test_large_flows_are_sent_in_smaller_calls(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "_HELD_BYTES_MAX", 1_000)
    taken = 0

    def counted() -> Iterator[FlowSpec[str]]:
        nonlocal taken
        for spec in specs(100):
            taken += 1
            yield spec

    async with aclosing(cast("Any", producer.add_many(counted()))) as handles:
        async for _ in handles:
            break
    assert taken <= 10


async def test_a_flow_that_is_refused_ends_it_and_what_came_before_is_added(producer: FlowProducer) -> None:
    await producer.add(many_echo.flow("another").with_options(id=f"n{BULK + 1}"))
    handles = producer.add_many(specs(3 * BULK))
    added = [await anext(handles) for _ in range(BULK)]
    with pytest.raises(FlowConflict):
        await anext(handles)
    assert all(handle.is_new for handle in added)
    assert len(await producer.list(limit=1_000)) == 2 * BULK


async def test_what_is_no_flow_is_refused(producer: FlowProducer) -> None:
    for wrong in (7, None, "flow", {"name": "echo"}, many_echo.flow("one")):
        with pytest.raises(InvalidValue, match="one flow is added with `add`"):
            producer.add_many(cast("Any", wrong))
    with pytest.raises(NotAFlow):
        await producer.add_bulk(cast("Any", [7]))
    assert not await producer.list()


@pytest.mark.parametrize("count", [BULK, BULK + 3])
async def test_an_error_of_the_source_is_given_on_after_all_that_it_gave_before(producer: FlowProducer, count: int) -> None:
    def breaking() -> Iterator[FlowSpec[str]]:
        yield from specs(count)
        raise ConnectionError("the file has moved")

    handles = producer.add_many(breaking())
    assert [(await anext(handles)).id for _ in range(count)] == [f"n{number}" for number in range(count)]
    with pytest.raises(ConnectionError, match="moved"):
        await anext(handles)
    assert len(await producer.list(limit=1_000)) == count


async def test_a_flow_that_is_refused_says_which_it_is_and_those_before_it_are_added(producer: FlowProducer) -> None:
    given = list(specs(BULK + 2))
    with pytest.raises(NotAFlow, match=f"^flow {BULK + 3} of those to be added: None is no flow; give it"):
        await producer.add_bulk(cast("Any", [*given, None, *specs(1)]))
    assert len(await producer.list(limit=1_000)) == BULK + 2
    made = (many_echo.flow(cast("Any", text)) for text in ("one", object()))
    with pytest.raises(FlowqError, match=r"^flow 2 of those to be added: many_echo: text can't be stored"):
        await producer.add_bulk(made)
    assert len(await producer.list(limit=1_000)) == BULK + 3


async def test_after_a_call_that_is_refused_no_other_is_made(producer: FlowProducer) -> None:
    await producer.add(many_echo.flow("another").with_options(id="n1"))
    with pytest.raises(FlowConflict):
        await producer.add_bulk(specs(3 * BULK))
    assert len(await producer.list(limit=1_000)) == BULK


async def test_a_refusal_is_told_at_once_though_the_source_gives_nothing_more(producer: FlowProducer) -> None:
    async def stalls() -> AsyncIterator[FlowSpec[str]]:
        for spec in specs(BULK):
            yield spec
        await asyncio.Event().wait()

    await producer.add(many_echo.flow("another").with_options(id="n1"))
    with pytest.raises(FlowConflict):
        await producer.add_bulk(stalls())


async def test_a_refusal_is_told_before_an_error_that_the_source_has_behind_it(producer: FlowProducer) -> None:
    def breaking() -> Iterator[FlowSpec[str]]:
        yield from specs(BULK)
        raise ConnectionError("the file has moved")

    await producer.add(many_echo.flow("another").with_options(id="n1"))
    with pytest.raises(FlowConflict):
        await producer.add_bulk(breaking())
    assert len(await producer.list(limit=1_000)) == BULK
