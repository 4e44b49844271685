"""Chains of four on one server, on a cluster of one node and on one of three: what a stage costs the servers, and Python.
Behind each place stands over how many partitions the flows are spread.

    python -m benchmarks.nodes --quick

All servers run on this machine, so this tells what distribution costs and not what it gains: its cores bound all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import statistics
from typing import Any

import redis

from benchmarks.contestants import FLOWQ
from benchmarks.conversation import talking
from benchmarks.drivers.line import STAGES
from benchmarks.install import CACHE
from benchmarks.server import Counters, counters
from flowq.store.connection import Connection
from flowq.store.slots import slot_of
from flowq.store.store import Store
from tests.clusters import running_cluster
from tests.servers import running_valkey


def main() -> None:
    """Measures in interleaved rounds and prints medians, with the least and the most."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="one small round: shows that it works, not how fast it is")
    options = parser.parse_args()
    if options.quick:
        options.flows, options.rounds = 250, 1
    with contextlib.ExitStack() as stack:
        places: dict[str, tuple[str, list[Any], int]] = {}
        url = stack.enter_context(running_valkey())
        for partitions in (1, 12):
            places[f"one server, {partitions}"] = url, [redis.Redis.from_url(url)], partitions
        for count, spread in ((1, (4,)), (3, (3, 6, 12))):
            cluster = stack.enter_context(running_cluster(count))
            clients = [redis.Redis(port=node.port) for node in cluster.nodes]
            name = "1 node" if count == 1 else f"{count} nodes"
            places |= {f"{name}, {partitions}": (cluster.url, clients, partitions) for partitions in spread}
        print(places["3 nodes, 12"][1][0].execute_command("CLUSTER", "NODES").decode())
        results: dict[str, dict[str, list[float]]] = {place: {} for place in places}
        for turn in range(options.rounds):
            order = list(places)
            for place in order[turn % len(order) :] + order[: turn % len(order)]:
                for figure, value in measured(*places[place], options).items():
                    results[place].setdefault(figure, []).append(value)
    for figure in results["one server, 1"]:
        print(figure)
        for place, found in results.items():
            values = found[figure]
            print(f"  {place:16} {statistics.median(values):10.2f}   {min(values):.2f}–{max(values):.2f}")


def measured(url: str, clients: list[Any], partitions: int, options: argparse.Namespace) -> dict[str, float]:
    """One round in one place."""
    namespace = f"bench{secrets.token_hex(4)}"
    asyncio.run(begun(url, namespace, partitions))
    submitted, submit_cost = run("submit", url, namespace, clients, options)
    by_node = [sum(1 for _ in client.scan_iter(match=f"{{{namespace}:*:f:*", count=10_000)) for client in clients]
    ran, cost = run("run", url, namespace, clients, options)
    for client in clients:
        by_slot: dict[int, list[bytes]] = {}
        for key in client.scan_iter(match=f"{{{namespace}[:}}]*", count=10_000):
            by_slot.setdefault(slot_of(key), []).append(key)
        for keys in by_slot.values():
            client.delete(*keys)
    stages = options.flows * STAGES
    return {
        "submit flows/s": options.flows / submitted["seconds"],
        "submit script µs/flow": submit_cost.script_us / options.flows,
        "run flows/s": options.flows / ran["seconds"],
        "run script µs/stage": cost.script_us / stages,
        "run server cpu µs/stage": cost.cpu_us / stages,
        "run Python µs/stage": 1e6 * ran["cpu"] / stages,
        "run stages/round trip": stages / cost.scripts,
        "flows on the fullest node / the emptiest": max(by_node) / min(by_node),
    }


async def begun(url: str, namespace: str, partitions: int) -> None:
    """The namespace has so many partitions from now on."""
    store = Store(Connection(url), namespace)
    await store.open(partitions)
    await store.close()


def run(do: str, url: str, namespace: str, clients: list[Any], options: argparse.Namespace) -> tuple[dict[str, Any], Counters]:
    """Has flowq's driver do a part, in a process of its own; what it said, and what it cost all servers together."""
    work = {"shape": "chain", "flows": options.flows, "concurrency": options.concurrency}
    with talking(FLOWQ.argv(CACHE, url, namespace), FLOWQ.environment(CACHE)) as driver:
        driver.ask("warm", shape="chain", runs=do == "run")
        before = [counters(client) for client in clients]
        answer = driver.ask(do, **work)
        costs = [counters(client).since(earlier) for client, earlier in zip(clients, before, strict=True)]
    return answer, Counters._make(sum(figures) for figures in zip(*costs, strict=True))


if __name__ == "__main__":
    main()
