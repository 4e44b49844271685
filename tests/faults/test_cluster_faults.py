"""Nodes of a cluster are added, and killed; the primary that Sentinels watch is killed; while flows run."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from flowq import FlowHandle, FlowProducer, pipeline, stage
from flowq.errors import ServerUnreachable
from flowq.store.connection import Connection
from flowq.store.slots import slot_of
from flowq.store.store import Store
from tests.clusters import SLOTS, Cluster, Node, running_cluster, watched
from tests.engine.work import told, working

pytestmark = [pytest.mark.fault, pytest.mark.anyio, pytest.mark.timeout(120)]

ran = Counter[tuple[str, int]]()


@stage
async def cf_begin(number: int) -> int:
    ran["begin", number] += 1
    await asyncio.sleep(0.01)
    return number + 1


@stage
async def cf_middle(number: int) -> int:
    ran["middle", number] += 1
    return number + 1


@stage
async def cf_end(number: int) -> int:
    ran["end", number] += 1
    return number + 1


@pipeline
def cf_three(number: int) -> int:
    return cf_end(cf_middle(cf_begin(number)))


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster of one's own that notices a lost node within a second."""
    ran.clear()
    with running_cluster(node_timeout_ms=1_000) as cluster:
        yield cluster


@pytest.fixture
async def producer(anyio_backend: str, own: Cluster) -> AsyncIterator[FlowProducer]:
    """An open producer."""
    async with FlowProducer(own.url) as opened:
        yield opened


async def steadily(producer: FlowProducer, count: int) -> list[FlowHandle[int]]:
    """Adds flows one after the other."""
    flows: list[FlowHandle[int]] = []
    for number in range(count):
        flows.append(await producer.add(cf_three(1_000 * number), id=f"n{number}"))
        await asyncio.sleep(0.005)
    return flows


async def all_right(flows: list[FlowHandle[int]]) -> None:
    """Each has its result, and committed each stage once."""
    assert [await flow.result(60) for flow in flows] == [1_000 * number + 3 for number in range(len(flows))]
    for flow in flows[::10]:
        assert sum(event.startswith("completed") for event in await told(flow)) == 4
        assert all(stage.attempt == 1 and stage.crashes == 0 for stage in (await flow.inspect()).graph)


def partitions_of(own: Cluster, producer: FlowProducer) -> Counter[int]:
    """How many partitions each node has, by port."""
    return Counter(own.owner(slot_of(tag)).port for tag in producer._open.store.partitions)


async def test_a_node_that_is_added_takes_slots_key_by_key_while_flows_run_and_nothing_is_lost(
    own: Cluster, producer: FlowProducer
) -> None:
    slots = [slot_of(tag) for tag in producer._open.store.partitions]
    async with working(producer, cf_begin, cf_middle, cf_end):
        adding = asyncio.create_task(steadily(producer, 300))
        await asyncio.sleep(0.3)
        new = await asyncio.to_thread(own.add)
        keys = 0
        for slot in (slots[1], slots[6], slots[11], slot_of(producer._open.store.keys.meta)):  # one of each, and the namespace's
            await asyncio.to_thread(own.begin_move, slot, new)
            await asyncio.sleep(0.2)
            keys += await asyncio.to_thread(own.end_move, slot, new)
        flows = await adding
        await all_right(flows)
    assert keys > 30
    assert sorted(partitions_of(own, producer).values()) == [3, 3, 3, 3]
    assert max(ran.values()) == 1
    calls = new.told("INFO", "commandstats")
    assert calls["cmdstat_fcall"]["calls"] > 0


async def test_slots_that_servers_move_by_themselves_move_under_flows_that_run(own: Cluster, producer: FlowProducer) -> None:
    async with working(producer, cf_begin, cf_middle, cf_end):
        adding = asyncio.create_task(steadily(producer, 300))
        await asyncio.sleep(0.3)
        new = await asyncio.to_thread(own.add)
        try:
            for number in range(3):
                first = number * SLOTS // 3
                await asyncio.to_thread(own.move_at_once, first, first + SLOTS // 12 - 1, new)
        except redis.ResponseError as error:
            pytest.skip(f"this server can't: {error}")
        await all_right(await adding)
    assert sorted(partitions_of(own, producer).values()) == [3, 3, 3, 3]
    assert max(ran.values()) == 1


async def test_no_script_runs_on_a_slot_that_is_being_moved_and_reads_follow_keys(own: Cluster, producer: FlowProducer) -> None:
    flow = await producer.add(cf_three(0), id="moves")
    store = Store(Connection(own.url, patience=0.3), "flowq")
    await store.open()
    slot = slot_of(store.keys.tag_of(flow.id))
    target = next(node for node in own.nodes if node is not own.owner(slot))
    own.begin_move(slot, target)
    with pytest.raises(ServerUnreachable, match=r"is not ready: TRYAGAIN slot \d+ is being moved to another node; make"):
        await store.cancel(flow.id, "never mind", 3)
    source = own.owner(slot)
    source.told("MIGRATE", "127.0.0.1", target.port, store.keys.flow(flow.id), 0, 5_000)  # some are here, some there
    with pytest.raises(ServerUnreachable, match=r"is not ready: TRYAGAIN slot \d+ is being moved to another node; make"):
        await store.cancel(flow.id, "never mind", 3)
    assert (await flow.inspect()).state == "ready"
    own.end_move(slot, target)
    assert await store.cancel(flow.id, "never mind", 3) == "cancelled"
    assert (await flow.inspect()).state == "cancelled"
    await store.close()


async def test_when_a_primary_without_a_replica_dies_calls_wait_and_say_which_node_is_gone(own: Cluster) -> None:
    store = Store(Connection(own.url, patience=0.2), "flowq")
    await store.open()
    tag = next(tag for tag in store.partitions if own.owner(slot_of(tag)) is own.nodes[1])
    lost = own.nodes[1]
    lost.kill()
    with pytest.raises(ServerUnreachable, match=rf"127\.0\.0\.1:{lost.port}"):
        await store.lease_of(tag, "nobody")
    store.connection.patience = 20.0
    waiting = asyncio.create_task(store.lease_of(tag, "nobody"))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    waiting.cancel()
    await store.close()


async def test_a_replica_takes_the_place_of_its_primary_and_flows_go_on(own: Cluster) -> None:
    primary = own.nodes[0]
    await asyncio.to_thread(own.follow, primary)
    async with FlowProducer(own.url) as producer, working(producer, cf_begin, cf_middle, cf_end):
        adding = asyncio.create_task(steadily(producer, 200))
        await asyncio.sleep(0.4)
        primary.kill()
        flows = await adding
        # What was not yet replicated is lost with its primary: durability is the server's. All that is there completes.
        left = [flow for flow in flows if await exists(flow)]
        assert len(left) > 150
        assert all([await flow.result(60) for flow in left])


async def exists(flow: FlowHandle[int]) -> bool:
    """Whether the failover left it."""
    return bool(await flow._backend.store.connection.command("EXISTS", flow._backend.store.keys.flow(flow.id)))


async def test_flows_go_on_when_sentinels_name_another_primary(anyio_backend: str) -> None:
    ran.clear()
    with watched() as servers:
        async with FlowProducer(servers.url) as producer, working(producer, cf_begin, cf_middle, cf_end):
            adding = asyncio.create_task(steadily(producer, 200))
            await asyncio.sleep(0.4)
            await until_replicated(servers.primary)
            servers.primary.kill()
            flows = await adding
            left = [flow for flow in flows if await exists(flow)]
            assert len(left) > 150
            assert all([await flow.result(60) for flow in left])
        assert servers.replica.told("INFO", "replication")["role"] == "master"


async def test_a_primary_that_became_a_replica_is_left_for_the_new_one(anyio_backend: str) -> None:
    with watched() as servers:
        async with FlowProducer(servers.url) as producer, working(producer, cf_begin, cf_middle, cf_end):
            assert await (await producer.add(cf_three(0))).result(30) == 3
            servers.fail_over()
            assert await (await producer.add(cf_three(1_000))).result(60) == 1_003


async def until_replicated(primary: Node) -> None:
    """Waits until the replica has what was written so far."""
    deadline = time.monotonic() + 10
    while not primary.told("WAIT", 1, 1_000):
        assert time.monotonic() < deadline
