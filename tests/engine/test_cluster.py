"""A cluster of three primaries: what lies where, what it costs in connections, and what is said of URLs that mean another server.

What flows do there is tested with everything else, in tests/conformance; what happens when nodes come and go, in tests/faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.engine.backend import Backend
from flowq.engine.client.doctor import examine
from flowq.errors import ServerEvicts, ServerForbids, ServerUnreachable, WrongKindOfServer
from flowq.settings import Settings
from flowq.store.slots import slot_of
from flowq.store.store import Store
from tests.clusters import SERVICE, Cluster, watched
from tests.engine.work import told, working
from tests.scanned import keys_like

pytestmark = pytest.mark.anyio

# Beside the pool of three: one that listens, and one that renews the lease.
CONNECTIONS_MAX = 5


@stage
async def cl_load(number: int) -> int:
    return number + 1


@stage
async def cl_count(number: int) -> int:
    return number * 2


@pipeline
def cl_both(number: int) -> int:
    return cl_count(cl_load(number))


@pytest.fixture
async def producer(anyio_backend: str, cluster: Cluster, namespace: str) -> AsyncIterator[FlowProducer]:
    """An open producer."""
    async with FlowProducer(cluster.url, namespace=namespace) as opened:
        yield opened


def store_of(producer: FlowProducer) -> Store:
    """What it writes to."""
    return producer._open.store


async def test_all_keys_of_a_flow_lie_in_one_slot_as_the_cluster_counts(producer: FlowProducer, cluster: Cluster) -> None:
    store = store_of(producer)
    async with working(producer, cl_load, cl_count):
        flow = await producer.add(cl_both(1), id="one-slot", tenant="acme", tags=["beta"])
        assert await flow.result(30) == 4
        keys = await keys_like(store, f"{{{store.keys.namespace}:[0-9]*}}*")
        # Those of the worker lie in every partition.
        own = [key for key in keys if b"one-slot" in key or key.partition(b"}")[2][:3] in (b":f:", b":p:", b":by")]
    assert len(own) > 4
    slots = {cluster.nodes[0].told("CLUSTER", "KEYSLOT", key) for key in own}
    assert slots == {slot_of(store.keys.tag_of(flow.id))}


async def test_flows_lie_evenly_on_all_nodes_and_all_complete(producer: FlowProducer) -> None:
    store = store_of(producer)
    flows = await producer.add_bulk(cl_both(number).with_options(id=f"n{number}") for number in range(300))
    nodes = Counter([(await store.connection.server_of(store.keys.tag_of(flow.id))).host for flow in flows])
    assert len(nodes) == 3
    assert min(nodes.values()) > 80
    async with working(producer, cl_load, cl_count):
        assert [await flow.result(60) for flow in flows] == [2 * (number + 1) for number in range(300)]


async def test_what_is_the_whole_namespaces_has_slots_of_its_own(producer: FlowProducer) -> None:
    await producer.set_limit("api", concurrency=2)
    await producer.set_limit("gpu", concurrency=1)
    store = store_of(producer)
    names = [store.keys.meta, store.keys.limits, store.keys.limit("api"), store.keys.limit("gpu"), *store.partitions]
    assert len({slot_of(name) for name in names}) == len(names) - 1  # the first two share one
    assert sorted(limit.name for limit in await producer.limits()) == ["api", "gpu"]


async def test_a_client_has_a_handful_of_connections_to_each_node_and_listens_where_its_partitions_are(
    producer: FlowProducer, cluster: Cluster
) -> None:
    async with working(producer, cl_load, cl_count, concurrency=200):
        flows = await producer.add_bulk(cl_both(number) for number in range(100))
        assert all([await flow.result(60) for flow in flows])
        (info,) = await producer.workers()
        for node in cluster.nodes:
            names = Counter(client["name"] for client in node.client.client_list() if client["name"].startswith("flowq:"))
            assert all(count <= CONNECTIONS_MAX for count in names.values())
            channels = node.told("PUBSUB", "SHARDCHANNELS", f"{{{store_of(producer).keys.namespace}:*:wake:{info.id}")
            assert [cluster.owner(slot_of(channel)) for channel in channels] == [node] * 4


async def test_functions_and_scripts_that_one_node_forgot_are_loaded_again(producer: FlowProducer, cluster: Cluster) -> None:
    async with working(producer, cl_load, cl_count):
        for number, node in enumerate(cluster.nodes):
            node.told("FUNCTION", "FLUSH")
            node.told("SCRIPT", "FLUSH")
            flows = await producer.add_bulk(cl_both(number) for _ in range(20))
            assert [await flow.result(60) for flow in flows] == [2 * (number + 1)] * 20
    assert all(node.told("FUNCTION", "LIST") for node in cluster.nodes)


async def test_who_may_not_use_functions_calls_scripts_on_each_node(cluster: Cluster, namespace: str) -> None:
    for node in cluster.nodes:
        node.told("ACL", "SETUSER", "plain", "reset", "on", ">pw", "~*", "&*", "+@all", "-fcall", "-function")
    async with FlowProducer(cluster.url.replace("://", "://plain:pw@"), namespace=namespace) as producer:
        async with working(producer, cl_load, cl_count):
            flows = await producer.add_bulk(cl_both(number) for number in range(20))
            assert [await flow.result(60) for flow in flows] == [2 * (number + 1) for number in range(20)]


async def test_who_lacks_a_right_is_refused_before_anything_is_written(cluster: Cluster, namespace: str) -> None:
    for node in cluster.nodes:
        node.told("ACL", "SETUSER", "limited", "reset", "on", ">pw", "~*", "&*", "+@all", "-spop")
    with pytest.raises(ServerForbids, match="the command spop"):
        await FlowProducer(cluster.url.replace("://", "://limited:pw@"), namespace=namespace).__aenter__()
    meta = f"{{{namespace}}}:meta"
    assert not cluster.owner(slot_of(meta)).told("EXISTS", meta)


async def test_doctor_tells_where_the_partitions_are(cluster: Cluster, namespace: str) -> None:
    backend = await Backend.open(Settings(url=cluster.url, namespace=namespace), name="flowq:doctor")
    findings = {finding.name: finding for finding in await examine(backend)}
    await backend.close()
    assert "on 3 nodes at redis+cluster://" in findings["server"].problem
    assert findings["nodes"].problem.startswith("12 partitions: 4 at 127.0.0.1:")
    assert findings["nodes"].remedy == "give each primary a replica"  # that of the tests has none
    assert {findings[name].level for name in ("server", "memory", "clock", "rights")} == {"ok"}


async def test_one_unfit_node_is_named(cluster: Cluster, namespace: str) -> None:
    odd = cluster.nodes[1]
    odd.told("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ServerEvicts, match=rf"node 127\.0\.0\.1:{odd.port}"):
            await FlowProducer(cluster.url, namespace=namespace).__aenter__()
    finally:
        odd.told("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_cluster_is_found_by_any_of_its_nodes(cluster: Cluster, namespace: str) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[2].port}"
    async with FlowProducer(url, namespace=namespace) as producer:
        assert len(store_of(producer).partitions) == 12


async def refusal_of(url: str) -> str:
    """What is said of a URL."""
    with pytest.raises(WrongKindOfServer) as refusal:
        await FlowProducer(url).__aenter__()
    return str(refusal.value)


async def test_a_url_that_means_another_kind_of_server_is_refused_with_the_right_form(
    cluster: Cluster, valkey_url: str, anyio_backend: str
) -> None:
    node = f"127.0.0.1:{cluster.nodes[0].port}"
    assert "is a node of a cluster; use the URL redis+cluster://host:6379" in await refusal_of(f"redis://{node}")
    assert "is no Sentinel; use the URL redis://host:6379" in await refusal_of(f"redis+sentinel://{node}/{SERVICE}")
    with watched() as servers:
        primary, sentinel = f"127.0.0.1:{servers.primary.port}", f"127.0.0.1:{servers.sentinel.port}"
        assert "is a server alone and no cluster; use the URL redis://" in await refusal_of(f"redis+cluster://{primary}")
        assert "is a Sentinel; use the URL redis+sentinel://" in await refusal_of(f"redis://{sentinel}")
        assert "watches nothing called 'other'" in await refusal_of(f"redis+sentinel://{sentinel}/other")
        async with FlowProducer(f"redis+sentinel://{sentinel}/{SERVICE}") as producer, working(producer, cl_load, cl_count):
            assert await (await producer.add(cl_both(1))).result(30) == 4


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:1,127.0.0.1:2", "redis+sentinel://127.0.0.1:1/flows"])
async def test_where_nobody_answers_it_is_said_so(anyio_backend: str, url: str) -> None:
    with pytest.raises(ServerUnreachable, match="does not answer: connection refused"):
        await FlowProducer(url).__aenter__()


async def test_events_are_followed_on_all_nodes(producer: FlowProducer) -> None:
    async with working(producer, cl_load, cl_count):
        flows = await producer.add_bulk(cl_both(number) for number in range(12))
        for flow in flows:
            verbs = await told(flow)
            assert (verbs[0], verbs[-1]) == ("added", "completed")
