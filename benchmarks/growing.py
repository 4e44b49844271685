"""A fourth node joins a cluster of three and takes a quarter of its partitions, key by key, while flows run: is anything lost?

python -m benchmarks.growing --quick
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import time
from collections import Counter

from flowq import FlowProducer, Worker
from flowq.cli.measuring import KEY, chain, when_done
from flowq.store.connection import Connection
from flowq.store.slots import slot_of
from flowq.store.store import Store
from tests.clusters import Cluster, Node, running_cluster

_NAMESPACE = "growing"
# When nothing has ended for so long, all has that will.
_QUIET_SECONDS = 3.0


def main() -> None:
    """Runs it once and prints what is seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="few flows: shows that it works")
    options = parser.parse_args()
    with running_cluster() as cluster:
        asyncio.run(grown(cluster, 2_000 if options.quick else options.flows, options.concurrency))


async def grown(cluster: Cluster, flows: int, concurrency: int) -> None:
    """Adds flows and the node, runs the flows, and moves slots when a tenth of them have ended."""
    ended, is_heard = list[float](), asyncio.Event()

    def hear(_key: str) -> None:
        ended.append(time.perf_counter())
        is_heard.set()

    async with FlowProducer(cluster.url, namespace=_NAMESPACE) as producer:
        slots = sorted({slot_of(tag) for tag in await _partitions(cluster.url)})
        await producer.add_bulk(chain(KEY) for _ in range(flows))
        print(f"three nodes, {flows:,} flows\n{_shown(cluster, slots)}")
        new = await asyncio.to_thread(cluster.add)
        worker = Worker(cluster.url, namespace=_NAMESPACE, pipelines=[chain], concurrency=concurrency)
        with when_done(hear):
            running = asyncio.create_task(worker.run())
            while len(ended) < flows // 10:
                is_heard.clear()
                await is_heard.wait()
            before, began = len(ended), time.perf_counter()
            keys = await asyncio.to_thread(_moved, cluster, slots[::4], new)
            seconds, after = time.perf_counter() - began, len(ended)
            with contextlib.suppress(TimeoutError):
                while True:
                    is_heard.clear()
                    await asyncio.wait_for(is_heard.wait(), _QUIET_SECONDS)
            await worker.stop()
            await running
        completed = await producer.list(state="completed", limit=flows + 1)
        print(f"\nfour nodes: {len(slots[::4])} of {len(slots)} partitions, {keys:,} keys, moved in {seconds:.1f} s")
        print(_shown(cluster, slots))
    longest = max(later - earlier for earlier, later in itertools.pairwise(ended))
    print(
        f"\n{before:,} flows had ended before and {after:,} when the node had its slots; {len(completed):,} of {flows:,} "
        f"completed, {len(ended) - flows} last stages ran again; longest time without an end: {1000 * longest:.0f} ms"
    )


async def _partitions(url: str) -> list[str]:
    store = Store(Connection(url), _NAMESPACE)
    await store.open()
    await store.close()
    return list(store.partitions)


def _shown(cluster: Cluster, slots: list[int]) -> str:
    """CLUSTER NODES, and what each node has of the namespace."""
    partitions = Counter(cluster.owner(slot).port for slot in slots)
    lines = [cluster.nodes[0].told("CLUSTER", "NODES").strip()]
    for node in cluster.nodes:
        flows = sum(1 for _ in node.client.scan_iter(match=f"{{{_NAMESPACE}:*:f:*", count=10_000))
        lines.append(f"port {node.port}: {partitions[node.port]} partitions, {flows:,} flows")
    return "\n".join(lines)


def _moved(cluster: Cluster, slots: list[int], target: Node) -> int:
    """Moves these slots with all their keys; how many keys these were."""
    keys = 0
    for slot in slots:
        cluster.begin_move(slot, target)
        keys += cluster.end_move(slot, target)
    return keys


if __name__ == "__main__":
    main()
