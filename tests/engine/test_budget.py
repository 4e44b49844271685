"""What a stage may cost, in things that can be counted: calls, commands, bytes. Times are for `make bench`.

On a server of its own, because the server's counters count everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from benchmarks.server import Counters, counters
from flowq import FlowProducer
from flowq.cli.measuring import KEY, STAGES, chain, when_done
from flowq.engine.client.producer import BULK
from tests.engine.work import working
from tests.servers import running_valkey

pytestmark = pytest.mark.anyio

FLOWS = 500
# Of background duties that may fall into a measurement.
SPARE_CALLS = 4


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, redis.Redis]]:
    """A server nobody else uses, and a client to ask it."""
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        yield url, client


async def _cost_of_waiting_flows(server: tuple[str, redis.Redis], namespace: str) -> Counters:
    """What a worker costs that finds FLOWS chains waiting; nobody follows them, so that all that is counted is the worker's."""
    url, client = server
    left, all_ran = FLOWS, asyncio.Event()

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            all_ran.set()

    async with FlowProducer(url, namespace=namespace) as producer:
        await producer.add_bulk(chain(KEY) for _ in range(FLOWS))
        before = counters(client)
        with when_done(count):
            async with working(producer, *chain.stages()):
                await asyncio.wait_for(all_ran.wait(), 30)
        cost = counters(client).since(before)
        assert len(await producer.list(state="completed", limit=FLOWS + 1)) == FLOWS
        return cost


async def test_one_chain_alone_costs_a_round_trip_per_stage_and_one_to_begin(server: tuple[str, redis.Redis]) -> None:
    """One that claims the first stage; one per stage that reports it and claims the next."""
    url, client = server
    async with FlowProducer(url, namespace="alone") as producer:
        async with working(producer, *chain.stages()):
            await (await producer.add(chain(KEY))).result(30)  # what is read once, such as the plan
            before = counters(client)
            for _ in range(20):
                await (await producer.add(chain(KEY))).result(30)
            cost = counters(client).since(before)
    submits = 20
    assert cost.scripts - submits <= 20 * (STAGES + 1) + SPARE_CALLS


async def test_under_load_a_round_trip_carries_many_stages(server: tuple[str, redis.Redis]) -> None:
    cost = await _cost_of_waiting_flows(server, "load")
    assert cost.scripts / (FLOWS * STAGES) <= 0.2


async def test_under_load_a_stage_costs_few_commands(server: tuple[str, redis.Redis]) -> None:
    """Those that scripts call are counted; each costs the server more than a microsecond."""
    cost = await _cost_of_waiting_flows(server, "commands")
    assert cost.commands / (FLOWS * STAGES) <= 7.5


async def test_a_waiting_chain_of_four_is_small(server: tuple[str, redis.Redis]) -> None:
    """With its inputs, its place in the queue, in the index of live flows and in the stream of events."""
    url, client = server
    async with FlowProducer(url, namespace="bytes") as producer:
        await producer.add_bulk(chain(KEY) for _ in range(BULK))  # what is kept once, such as the plan
        before = counters(client)
        await producer.add_bulk(chain(KEY) for _ in range(8 * BULK))
        assert counters(client).since(before).dataset / (8 * BULK) <= 500
