"""A run that holds a place of a limit and asks for another one would wait for itself: it is told so. Keys name arguments."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import FlowProducer, limit, stage
from flowq.errors import FlowFailed, InvalidValue
from flowq.pipeline.stage import AnyStage
from tests.engine.work import working

pytestmark = pytest.mark.anyio

ONE = "cw_one"


@stage(limits=[limit(ONE)])
async def cw_in_the_option() -> None:
    async with limit(ONE):
        pass


@stage
async def cw_in_a_block() -> None:
    async with limit(ONE), limit(ONE):
        pass


@stage
def cw_in_a_thread() -> None:
    with limit(ONE), limit(ONE):
        pass


@stage(limits=[limit(ONE, key="{one}"), limit(ONE, key="{other}")])
async def cw_by_key(one: str, other: str) -> str:
    return one + other


@stage(limits=[limit(ONE)])
async def cw_in_a_task() -> None:
    async def within() -> None:
        async with limit(ONE):
            pass

    await asyncio.gather(within())


@stage
async def cw_side_by_side() -> str:
    shared = limit(ONE)
    first, second = asyncio.Event(), asyncio.Event()

    async def enter(arrived: asyncio.Event, other: asyncio.Event) -> None:
        async with shared:
            arrived.set()
            await other.wait()
        async with shared:  # it holds none any more, though the other one may
            pass

    await asyncio.gather(enter(first, second), enter(second, first))
    async with shared:
        return "all"


@stage(limits=[limit(ONE)])
async def cw_counted() -> str:
    async with limit(ONE), limit(ONE):
        return "counted"


@pytest.mark.parametrize("kind", [cw_in_the_option, cw_in_a_block, cw_in_a_thread, cw_in_a_task])
@pytest.mark.parametrize("concurrency", [1, 5])
async def test_a_place_within_a_place_is_refused(producer: FlowProducer, kind: AnyStage, concurrency: int) -> None:
    await producer.set_limit(ONE, concurrency=concurrency)
    async with working(producer, kind):
        flow = await producer.add(kind.flow())
        with pytest.raises(FlowFailed, match=f"this run holds a place of limit '{ONE}' already: it would wait for itself"):
            await flow.result(30)
    assert (await producer.limits())[0].held == 0


async def test_keys_that_are_one_by_the_arguments_are_refused(producer: FlowProducer) -> None:
    await producer.set_limit(ONE, concurrency=1)
    async with working(producer, cw_by_key):
        assert await (await producer.add(cw_by_key.flow("a", "b"))).result(30) == "ab"
        with pytest.raises(FlowFailed, match=f"place of limit '{ONE}' of key 'a' already"):
            await (await producer.add(cw_by_key.flow("a", "a"))).result(30)


async def test_blocks_side_by_side_and_one_after_the_other_take_places_as_before(producer: FlowProducer) -> None:
    await producer.set_limit(ONE, concurrency=2)
    async with working(producer, cw_side_by_side):
        assert await (await producer.add(cw_side_by_side.flow())).result(30) == "all"


async def test_what_only_counts_may_be_used_within_itself(producer: FlowProducer) -> None:
    await producer.set_limit(ONE, rate="100/s")
    async with working(producer, cw_counted):
        assert await (await producer.add(cw_counted.flow())).result(30) == "counted"


def test_an_option_names_a_limit_once() -> None:
    with pytest.raises(InvalidValue, match="each limit once"):
        stage(limits=[limit("a", tokens=1), limit("b"), limit("a")])
    stage(limits=[limit("a", key="x"), limit("a", key="y")])


async def with_user(user: str) -> None: ...


def test_a_key_that_names_no_argument_is_refused_where_the_stage_is_defined() -> None:
    says = "key of a limit is 'u:{nope}'; expected names of arguments of cw_user_1, which takes user: there is no 'nope'"
    with pytest.raises(InvalidValue) as refused:
        stage(name="cw_user_1", limits=[limit("a", key="u:{nope}")])(with_user)
    assert str(refused.value) == says
    known: Any = stage(name="cw_user_2", limits=[limit("a", key="u:{user}")])(with_user)
    with pytest.raises(InvalidValue, match="there is no 'nope'"):
        known.with_options(limits=[limit("a", key="{user}{nope}")])


def test_a_key_that_can_not_be_one_whatever_the_arguments_is_refused_where_it_is_written() -> None:
    for key in ("a b{user}", "{user}\\", "-{user}"):
        with pytest.raises(InvalidValue, match="key of a limit"):
            limit("a", key=key)


@pytest.mark.parametrize("name", ["queue:cw_own", "tenant:acme"])
def test_a_limit_of_a_queue_or_tenant_is_refused_where_it_is_used(name: str) -> None:
    """Workers keep to it before they claim; a stage would wait behind all that they claim."""
    with pytest.raises(InvalidValue, match="workers keep to limits of queues and tenants by themselves"):
        limit(name)
    with pytest.raises(InvalidValue, match="another name"):
        limit(name, key="x")
