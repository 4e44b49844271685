"""The largest flows that are promised, run to their end: ten thousand links in a row, and a hundred thousand children of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer, context, pipeline, stage
from tests.engine.work import working

pytestmark = [pytest.mark.story, pytest.mark.anyio, pytest.mark.timeout(600)]

LINKS = 10_000
CHILDREN = 100_000
PATIENCE = 500.0

ran: Counter[str] = Counter()


@stage
async def lg_next(number: int) -> int:
    ran[context().stage] += 1
    return number + 1


@stage
async def lg_sum(numbers: list[int]) -> int:
    ran[context().stage] += 1
    assert numbers == list(range(1, len(numbers) + 1)), "in the order in which they were asked for"
    return sum(numbers)


@pipeline
def lg_chain(links: int) -> int:
    number = lg_next(0)
    for _ in range(links - 1):
        number = lg_next(number)
    return number


@pipeline
def lg_fan_in(width: int) -> int:
    return lg_sum([lg_next(number) for number in range(width)])


@pytest.fixture
async def producer(anyio_backend: str, valkey_url: str, namespace: str, artifacts: str) -> AsyncIterator[FlowProducer]:
    """An open producer; nothing has run yet."""
    ran.clear()
    async with FlowProducer(valkey_url, namespace=namespace, artifacts=artifacts) as opened:
        yield opened


async def test_ten_thousand_links_of_a_chain_run_one_after_the_other(producer: FlowProducer) -> None:
    async with working(producer, lg_next, lg_sum):
        flow = await producer.add(lg_chain(LINKS))
        assert await flow.result(PATIENCE) == LINKS
    assert (len(ran), set(ran.values())) == (LINKS, {1})
    assert (await flow.inspect()).done == LINKS


async def test_a_stage_may_wait_for_a_hundred_thousand_and_runs_once(producer: FlowProducer) -> None:
    async with working(producer, lg_next, lg_sum, concurrency=200):
        flow = await producer.add(lg_fan_in(CHILDREN))
        assert await flow.result(PATIENCE) == sum(range(1, CHILDREN + 1))
    assert (len(ran), set(ran.values())) == (CHILDREN + 1, {1})
    assert (await flow.inspect()).done == CHILDREN + 1
