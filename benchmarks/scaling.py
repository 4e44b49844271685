"""What 1,000, 100,000 and 1,000,000 stages a second would take: servers, workers, memory. Simulated from costs measured here.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --quick

First a real server is asked what its calls cost: those that add flows, that report and claim so many stages, that find nothing,
that renew a lease. Then one server of many is simulated, see `benchmarks.simulation`. Every worker of a namespace talks to every
server of it, so how many servers a namespace has decides how much is asked: `--together 8` spreads the flows over namespaces of
so many servers each.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import secrets
import statistics
from itertools import islice, product

import redis

from benchmarks.server import counters
from benchmarks.simulation import ADDED_AT_ONCE, STAGES, Costs, Fleet, sized
from flowq import pipeline, stage
from flowq.engine.exchange.holder import new_holder_id
from flowq.model.outcome import Claim, Complete, Outcome, opaque
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.wants import Wants
from flowq.store.wire import HolderInfo
from tests.servers import running_valkey

KEY = "s3://media/flows/0000000000000000/source/1-00000000/video.mp4"
BATCHES = (1, 5, 25)
# As long as a worker's are: a record has them, and how long it is decides how the server keeps the flow.
_HOLDER = new_holder_id("encoder-1-10758")
_RESULT = opaque(b"\xd9\x3d" + KEY.encode())


@stage
async def scaled_step(key: str) -> str:
    """Never runs: its part is played."""
    return key


@pipeline
def scaled(key: str) -> str:
    """Four stages, one after the other."""
    return scaled_step(scaled_step(scaled_step(scaled_step(key))))


def main() -> None:
    """Measures, plays and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 100_000, 1_000_000], help="stages a second")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a stage runs")
    parser.add_argument("--slots", type=int, default=50, help="of a worker process, of which four fifths are used")
    parser.add_argument("--together", type=int, nargs="+", default=[], help="also in namespaces of so many servers each")
    parser.add_argument("--calls", type=int, default=200, help="of each size, to measure what they cost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small: shows that it works, not what is true")
    options = parser.parse_args()
    if options.quick:
        options.rates, options.calls = [1_000, 5_000], 20
    with running_valkey() as url:
        costs = asyncio.run(measured_costs(url, options.calls))
    print(
        f"processor time of a server: a question {costs.question_us:.0f} µs, a call {costs.call_us:.0f} µs and"
        f" {costs.stage_us:.1f} µs for each stage in it, a flow that is added {costs.add_us:.1f} µs,"
        f" a renewal {costs.renew_us:.0f} µs; a chain of {STAGES}:"
        f" {costs.waiting_bytes:,.0f} bytes waiting, {costs.completed_bytes:,.0f} completed"
    )
    print(" stages/s  together  servers  workers   busy  asking  batch       p99  kept a minute")
    for rate, together in product(options.rates, (math.inf, *options.together)):
        fleet = sized(costs, rate, options.seconds, options.slots, random.Random(options.seed), together)
        print(f"{rate:>9,} {'all' if together == math.inf else together:>9} {_row(fleet, rate, costs)}")


def _row(fleet: Fleet, rate: int, costs: Costs) -> str:
    load, kept = fleet.load, rate / STAGES * 60 * costs.completed_bytes / 1e6
    if not fleet.is_enough:
        asked = f"{load.asked:.0%} of the time with questions alone"
        return f"{'–':>8} {fleet.workers:>8,} not borne by any number: a server is busy {asked}"
    return (
        f"{fleet.servers:>8,} {fleet.workers:>8,} {load.busy:>6.0%} {load.asked:>7.0%} {load.batch:>6.1f}"
        f" {load.p99_ms:>6.1f} ms {kept:>11,.0f} MB"
    )


async def measured_costs(url: str, calls: int) -> Costs:
    """Asks a real server, with exchanges of several sizes: a line through them gives a call's part and a stage's."""
    with redis.Redis.from_url(url) as client:
        question = await _call_us(url, client, 0, calls)
        sizes = [(batch, await _call_us(url, client, batch, calls)) for batch in BATCHES]
        fit = statistics.linear_regression(*zip(*sizes, strict=True))
        add, renew = await _beside_us(url, client, calls)
        waiting, completed = await _weights(url, client, 20 * calls)
    return Costs(question, max(question, fit.intercept), fit.slope, add, renew, waiting, completed)


async def _call_us(url: str, client: redis.Redis, batch: int, calls: int) -> float:
    """Microseconds of processor time in a call that reports so many stages and claims as many."""
    store = Store(Connection(url), f"scale{secrets.token_hex(3)}")
    await store.open()
    (tag,) = store.partitions
    await _add(store, batch * (calls + 1))
    await store.register(tag, _HOLDER, 600_000, HolderInfo(_HOLDER, ("default",), ("scaled_step",), (), 50))
    wants, claims = [Wants(-1, ("default:scaled_step",))], list[Claim]()
    before = counters(client)
    for seq in range(1, calls + 1):
        outcomes = [await _completed(store, claim) for claim in claims]
        answer = await store.exchange(tag, _HOLDER, 0, seq, secrets.token_urlsafe(8), outcomes, [], wants, batch, False)
        claims = answer.claims if answer else []
    cost = counters(client).since(before)
    await store.close()
    return cost.cpu_us / calls


async def _beside_us(url: str, client: redis.Redis, calls: int) -> tuple[float, float]:
    """Processor time of a flow that is added with others, and of a renewed lease."""
    store = Store(Connection(url), f"scale{secrets.token_hex(3)}")
    await store.open()
    (tag,) = store.partitions
    await _add(store, ADDED_AT_ONCE)
    await store.register(tag, _HOLDER, 600_000, HolderInfo(_HOLDER, ("default",), ("scaled_step",), (), 50))
    begun = counters(client)
    await _add(store, calls * ADDED_AT_ONCE)
    added = counters(client)
    for _ in range(calls):
        await store.renew(tag, 600_000, [_HOLDER])
    renewed = counters(client)
    await store.close()
    return added.since(begun).cpu_us / calls / ADDED_AT_ONCE, renewed.since(added).cpu_us / calls


async def _weights(url: str, client: redis.Redis, flows: int) -> tuple[float, float]:
    """Bytes of a chain that waits, and of one that has completed."""
    store = Store(Connection(url), f"scale{secrets.token_hex(3)}")
    await store.open()
    (tag,) = store.partitions
    await _add(store, 25)
    await store.register(tag, _HOLDER, 600_000, HolderInfo(_HOLDER, ("default",), ("scaled_step",), (), 50))
    empty = counters(client).dataset
    await _add(store, flows)
    waiting = counters(client).dataset
    wants, claims, seq, has_more = [Wants(-1, ("default:scaled_step",))], list[Claim](), 0, True
    while has_more:
        seq += 1
        outcomes = [await _completed(store, claim) for claim in claims]
        answer = await store.exchange(tag, _HOLDER, 0, seq, secrets.token_urlsafe(8), outcomes, [], wants, 25, False)
        claims = answer.claims if answer else []
        has_more = bool(claims)
    completed = counters(client).dataset
    await store.close()
    return (waiting - empty) / flows, (completed - empty) / flows


async def _add(store: Store, flows: int) -> None:
    specs = ((f"f{secrets.token_hex(8)}", scaled(KEY)) for _ in range(flows))
    while page := list(islice(specs, ADDED_AT_ONCE)):
        await store.submit(page)


async def _completed(store: Store, claim: Claim) -> Outcome:
    plan = await store.plan(claim.flow_id, claim.plan)
    if not plan.holds(claim.index):
        await plan.load(claim.index)
    return Complete(*claim.run, _RESULT, opaque(b""), plan.releases(claim.index))


if __name__ == "__main__":
    main()
