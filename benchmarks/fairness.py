"""Fairness: tenant A adds many flows, then B one; how long B waits, in durations of a stage. And what many tenants cost a claim.

python -m benchmarks.fairness
python -m benchmarks.fairness --flows 2000 --tenants 5000
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from itertools import islice

import redis

from benchmarks.server import counters
from flowq import FlowProducer, Worker, pipeline, stage
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.wants import Wants
from flowq.store.wire import HolderInfo
from tests.servers import running_valkey

_SECONDS = 0.05


@stage
async def fair_first(number: int) -> int:
    """Takes a while."""
    await asyncio.sleep(_SECONDS)
    return number


@stage
async def fair_second(number: int) -> int:
    """Takes as long."""
    await asyncio.sleep(_SECONDS)
    return number


@pipeline
def fair(number: int) -> int:
    """Two stages, one after the other."""
    return fair_second(fair_first(number))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=20_000, help="of tenant A")
    parser.add_argument("--tenants", type=int, default=50_000, help="with one flow each, for the cost of a claim")
    options = parser.parse_args()
    with running_valkey() as url:
        for concurrency in (1, 4, 20):
            asyncio.run(_one_behind_many(url, options.flows, concurrency))
        for tenants in (0, 1, 10, options.tenants):
            asyncio.run(_claims(url, tenants, options.tenants))


async def _one_behind_many(url: str, flows: int, concurrency: int) -> None:
    namespace = f"fair{secrets.token_hex(3)}"
    async with FlowProducer(url, namespace=namespace) as producer:
        await producer.add_bulk(fair(number).with_options(tenant="a") for number in range(flows))
        worker = Worker(url, namespace=namespace, pipelines=[fair], concurrency=concurrency, drain_timeout=0)
        running = asyncio.create_task(worker.run())
        await asyncio.sleep(20 * _SECONDS)
        waits: list[float] = []
        for number in range(5):
            began_at = time.monotonic()
            flow = await producer.add(fair(number), tenant="b")
            await flow.result(60)
            waits += [stage.wait_seconds or 0.0 for stage in (await flow.inspect()).graph]
            took = time.monotonic() - began_at
        print(
            f"{flows:,} flows of A, {concurrency:>2} at once: a stage of B waits {max(waits) / _SECONDS:.2f} durations"
            f" of a stage at most, {sum(waits) / len(waits) / _SECONDS:.2f} on average; its last flow took {took / _SECONDS:.1f}"
        )
        await worker.stop()
        await running


async def _claims(url: str, tenants: int, flows: int) -> None:
    store = Store(Connection(url), f"fair{secrets.token_hex(3)}")
    await store.open()
    (tag,) = store.partitions
    names = iter(range(flows))
    while batch := list(islice(names, 250)):
        specs = [
            (f"f{number}", fair_first.flow(1).with_options(tenant=f"t{number % tenants}" if tenants else "")) for number in batch
        ]
        await store.submit(specs)
    await store.register(tag, "holder", 600_000, HolderInfo("holder", ("default",), ("fair_first",), (), 50))
    with redis.Redis.from_url(url) as client:
        before, claimed = counters(client), 0
        for seq in range(1, 101):
            answer = await store.exchange(
                tag, "holder", 0, seq, f"n{seq}", [], [], [Wants(-1, ("default:fair_first",))], 50, False
            )
            claimed += len(answer.claims) if answer else 0
        cost = counters(client).since(before)
    # The time of many tenants is that of the machine's memory: the same code takes 40 µs or 85, by what else runs there.
    each = f"{cost.script_us / claimed:.1f} µs of script and {cost.commands / claimed:.2f} commands each"
    print(f"{tenants:>6,} tenants: {claimed:,} claims, {each}")
    await store.close()


if __name__ == "__main__":
    main()
