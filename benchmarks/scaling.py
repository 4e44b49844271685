"""What 1,000, 100,000 and 1,000,000 stages a second would take: servers, workers, memory. Simulated from costs measured here.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --quick

First a real server is asked what exchanges cost that report and claim so many stages. Then one server of many is played: all
others have the same to do. Its workers' stages end at random moments; what ends while a worker's two calls are under way goes
with the next one, and who has nothing to say asks once a second. Networks and failures are not played. `--serves 8` plays
beside it what does not exist yet: workers that serve the partitions of so many servers only.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import math
import random
import secrets
import statistics
from itertools import islice, product
from typing import NamedTuple

import redis

from benchmarks.figures import percentile
from benchmarks.server import counters
from flowq import pipeline, stage
from flowq.engine.exchange.conversation import LINES
from flowq.engine.exchange.holder import new_holder_id
from flowq.model.outcome import Claim, Complete, Outcome, opaque
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.wants import Wants
from flowq.store.wire import HolderInfo
from tests.servers import running_valkey

KEY = "s3://media/flows/0000000000000000/source/1-00000000/video.mp4"
STAGES = 4
BATCHES = (1, 5, 25)
PARTITIONS = 4  # of each server, as flowq spreads them over a cluster
# As long as a worker's are: a record has them, and how long it is decides how the server keeps the flow.
_HOLDER = new_holder_id("encoder-1-10758")
_RESULT = opaque(b"\xd9\x3d" + KEY.encode())
# What a server should be busy at most: above it those who wait grow many.
_BUSY_MAX = 0.6


@stage
async def scaled_step(key: str) -> str:
    """Never runs: its part is played."""
    return key


@pipeline
def scaled(key: str) -> str:
    """Four stages, one after the other."""
    return scaled_step(scaled_step(scaled_step(scaled_step(key))))


class Costs(NamedTuple):
    """What was measured.

    Attributes:
        question_us: server time of a call that says nothing and finds nothing.
        call_us: of a call that reports and claims, beside its stages.
        stage_us: of each stage in it.
        waiting_bytes, completed_bytes: of a chain of four.
    """

    question_us: float
    call_us: float
    stage_us: float
    waiting_bytes: float
    completed_bytes: float


class Load(NamedTuple):
    """How one server fares.

    Attributes:
        busy: the share of time.
        asked: the share of time that questions take which say nothing.
        batch: stages in a call that carries some, on average.
        p99_ms: how long the end of a stage takes to be known, at p99.
    """

    busy: float
    asked: float
    batch: float
    p99_ms: float


class Fleet(NamedTuple):
    """What a rate takes."""

    servers: int
    workers: int
    load: Load


def main() -> None:
    """Measures, plays and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 100_000, 1_000_000], help="stages a second")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a stage runs")
    parser.add_argument("--slots", type=int, default=50, help="of a worker process, of which four fifths are used")
    parser.add_argument("--serves", type=int, nargs="+", default=[], help="also where a worker serves so many servers only")
    parser.add_argument("--calls", type=int, default=200, help="of each size, to measure what they cost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small: shows that it works, not what is true")
    options = parser.parse_args()
    if options.quick:
        options.rates, options.calls = [1_000, 20_000], 20
    with running_valkey() as url:
        costs = asyncio.run(measured_costs(url, options.calls))
    print(
        f"server time of a question {costs.question_us:.0f} µs, of a call {costs.call_us:.0f} µs, {costs.stage_us:.1f} µs of each"
        f" stage in it; a chain of {STAGES}: {costs.waiting_bytes:,.0f} bytes waiting, {costs.completed_bytes:,.0f} completed"
    )
    print(" stages/s  serving  servers  workers   busy  asking  batch       p99  kept a minute")
    for rate, serves in product(options.rates, (math.inf, *options.serves)):
        fleet = sized(costs, rate, options.seconds, options.slots, random.Random(options.seed), serves)
        load, kept = fleet.load, rate / STAGES * 60 * costs.completed_bytes / 1e9
        print(
            f"{rate:>9,} {'all' if serves == math.inf else serves:>8} {fleet.servers:>8,} {fleet.workers:>8,} {load.busy:>6.0%}"
            f" {load.asked:>7.0%} {load.batch:>6.1f} {load.p99_ms:>6.1f} ms {kept:>11,.1f} GB"
        )


async def measured_costs(url: str, calls: int) -> Costs:
    """Asks a real server, with exchanges of several sizes: a line through them gives a call's part and a stage's."""
    with redis.Redis.from_url(url) as client:
        question = await _call_us(url, client, 0, calls)
        sizes = [(batch, await _call_us(url, client, batch, calls)) for batch in BATCHES]
        fit = statistics.linear_regression(*zip(*sizes, strict=True))
        waiting, completed = await _weights(url, client, 20 * calls)
    return Costs(question, max(question, fit.intercept), fit.slope, waiting, completed)


def sized(costs: Costs, rate: float, seconds: float, slots: int, dice: random.Random, serves: float) -> Fleet:
    """The fewest servers that are busy for no more than three fifths of the time; as many workers as the stages need, each of
    which `serves` so many servers."""
    workers = max(1, math.ceil(rate * seconds / (0.8 * slots)))
    servers = max(1, math.floor(rate * costs.stage_us / 1e6 / _BUSY_MAX))
    while True:
        load = played(costs, rate / servers, math.ceil(workers * min(1.0, serves / servers)), dice)
        if load.busy <= _BUSY_MAX:
            return Fleet(servers, workers, load)
        if load.asked > _BUSY_MAX:  # more servers have no fewer questions to answer: each is asked by every worker
            return Fleet(servers, workers, load)
        servers = math.ceil(servers * max(1.02, load.busy / _BUSY_MAX))


def played(costs: Costs, rate: float, workers: int, dice: random.Random, seconds: float = 2.0) -> Load:
    """One server, which all workers talk to, each with all its partitions.

    Args:
        costs: what calls cost it.
        rate: stages that end each second, of its flows.
        workers: how many processes.
        dice: when stages end, and whose.
        seconds: how long is played, after as long to get going.
    """
    talks = workers * PARTITIONS
    under_way, waiting = [0] * talks, [list[float]() for _ in range(talks)]
    silent_since = [0.0] * talks
    # (moment, what, whose): a stage ends, an answer is there, or somebody silent asks.
    events = [(dice.random(), "ask", talk) for talk in range(talks)] + [(dice.expovariate(rate), "end", -1)]
    heapq.heapify(events)
    free_at = busy = asked = 0.0
    took, sizes = list[float](), list[int]()

    def call(now: float, talk: int) -> None:
        nonlocal free_at, busy, asked
        carried, waiting[talk] = waiting[talk], []
        cost = (costs.call_us + costs.stage_us * len(carried) if carried else costs.question_us) / 1e6
        free_at = max(now, free_at) + cost
        under_way[talk] += 1
        heapq.heappush(events, (free_at, "answer", talk))
        if now >= seconds:
            busy, asked = busy + cost, asked + (0.0 if carried else cost)
            took.extend(free_at - since for since in carried)
            sizes.extend([len(carried)] if carried else [])

    while (event := heapq.heappop(events))[0] < 2 * seconds:
        now, what, talk = event
        if what == "end":
            heapq.heappush(events, (now + dice.expovariate(rate), "end", -1))
            waiting[talk := dice.randrange(talks)].append(now)
        elif what == "answer":
            under_way[talk] -= 1
            silent_since[talk] = now
            heapq.heappush(events, (now + 1.0, "ask", talk))
        elif under_way[talk] or now < silent_since[talk] + 1.0:
            continue
        if (waiting[talk] and under_way[talk] < LINES) or what == "ask":
            call(now, talk)
    return Load(busy / seconds, asked / seconds, statistics.fmean(sizes or [0]), 1e3 * percentile(took or [0.0], 0.99))


async def _call_us(url: str, client: redis.Redis, batch: int, calls: int) -> float:
    """Microseconds of script time in a call that reports so many stages and claims as many."""
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
    return cost.script_us / calls


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
    while page := list(islice(specs, 100)):
        await store.submit(page)


async def _completed(store: Store, claim: Claim) -> Outcome:
    plan = await store.plan(claim.flow_id, claim.plan)
    if not plan.holds(claim.index):
        await plan.load(claim.index)
    return Complete(*claim.run, _RESULT, opaque(b""), plan.releases(claim.index))


if __name__ == "__main__":
    main()
