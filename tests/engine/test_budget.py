"""What things may cost, in what can be counted: calls, round trips, bytes, modules; `benchmarks/budget.toml` says how much.

Times are for `make bench`. On a server of its own, because the server's counters count everybody.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from benchmarks.server import Counters, counters
from flowq import FlowProducer, stage
from flowq.cli.measuring import KEY, STAGES, chain, when_done
from flowq.engine.client.producer import BULK
from flowq.engine.exchange.holder import new_holder_id
from flowq.engine.worker import worker as workers
from flowq.store.connection import Connection
from flowq.store.fleet import Fleet
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import HolderInfo
from tests.engine.budget import FILE, Figure, figures, keeps_to_budget
from tests.engine.work import PATIENCE, working
from tests.servers import running_valkey
from tests.store.acting import LEASE_MS, Actor, again, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

FLOWS = 200
BATCH = 25
# As long as workers' names are: a record has it, and how long that is decides how the server keeps the flow.
WORKER = "encoder-1-10758"


at_work, may_go = threading.Semaphore(0), threading.Semaphore(0)


@stage
def tb_gated() -> None:
    """Stays until it may go."""
    at_work.release()
    may_go.acquire()


class House(NamedTuple):
    """A server nobody else uses.

    Attributes:
        url: where it is.
        client: to ask it.
    """

    url: str
    client: redis.Redis

    def counted(self) -> Counters:
        """Its counters."""
        return counters(self.client)


@pytest.fixture(scope="module")
def server() -> Iterator[House]:
    """A server nobody else uses, and a client to ask it."""
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        yield House(url, client)


@pytest.fixture
async def played(server: House, namespace: str) -> AsyncIterator[Played]:
    """Scripts called by hand, with nothing else on the server."""
    store = Store(Connection(server.url, name="budget"), namespace)
    await store.open()
    stages = tuple(stage.name for stage in chain.stages())
    actor = Actor(store, new_holder_id(WORKER), routes=())
    actor.routes = tuple(f"bench:{name}" for name in stages)
    await store.register(store.partitions[0], actor.id, LEASE_MS, HolderInfo(actor.id, ("bench",), stages, actor.routes, BATCH))
    played = Played(server, store, actor)
    await played.submit(1)  # what is kept or loaded once: functions, scripts, the plan
    await actor.finish()
    yield played
    await store.close()


class Played:
    """Scripts called by hand on a server, and what the server counted meanwhile."""

    def __init__(self, server: House, store: Store, actor: Actor) -> None:
        self.server = server
        self.store = store
        self.actor = actor
        self.tag = store.partitions[0]
        self.flows = 0

    async def submit(self, count: int) -> str:
        """Adds so many chains in one call; gives the id of the last."""
        names = [f"f{number}" for number in range(self.flows, self.flows + count)]
        self.flows += count
        await self.store.submit([(name, chain(KEY)) for name in names])
        return names[-1]

    async def cost(self, deed: Awaitable[Any]) -> int:
        """How many commands scripts called for it."""
        before = self.server.counted()
        await deed
        return self.server.counted().since(before).commands

    async def cost_again(self, name: str, *args: Any) -> int:
        """The same for a script that the server knows since it was called before."""
        await self.store.connection.run(name, self.tag, *args)
        return await self.cost(self.store.connection.run(name, self.tag, *args))

    async def run_stages(self, batch: int) -> int:
        """Runs the chains that wait, so many stages at a time; gives how many those were."""
        claims, done = await self.actor.claim(batch), 0
        while claims:
            done += len(claims)
            outcomes = [await self.actor.completed(claim, KEY) for claim in claims]
            answer = await self.actor.exchange(*outcomes, capacity=batch)
            assert answer is not None
            claims = answer.claims
        return done


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_line_of_the_budget_is_counted() -> None:
    text = Path(__file__).read_text("utf-8")
    assert not [name for name in figures() if f'"{name}"' not in text]


def test_what_costs_more_than_its_budget_is_told_with_both_figures() -> None:
    assert Figure(10, "a stage").judged("calls.stage", 10) == ""
    assert "calls.stage is 10.5, and its budget 10 (a stage)" in Figure(10, "a stage").judged("calls.stage", 10.5)


def test_what_has_become_much_cheaper_asks_for_a_lower_budget() -> None:
    assert Figure(10, "a stage").judged("calls.stage", 9.1) == ""
    assert f"lower the budget of 10 in {FILE.name} to 8.9" in Figure(10, "a stage").judged("calls.stage", 8.9)
    assert Figure(10, "a stage", slack=0.2).judged("calls.stage", 8.9) == ""


# ── what scripts call ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_adding_calls_few_commands(played: Played) -> None:
    keeps_to_budget("calls.submit_alone", await played.cost(played.submit(1)))
    keeps_to_budget("calls.submit_of_25", await played.cost(played.submit(BATCH)) / BATCH)


async def test_an_exchange_without_work_calls_few_commands(played: Played) -> None:
    keeps_to_budget("calls.exchange_idle", await played.cost(played.actor.exchange(capacity=BATCH)))
    await played.actor.exchange(capacity=BATCH, parks=True)  # its routes are told whom to wake: once a minute
    keeps_to_budget("calls.exchange_parks", await played.cost(played.actor.exchange(capacity=BATCH, parks=True)))


@pytest.mark.parametrize(("batch", "figure"), [(1, "calls.stage_alone"), (BATCH, "calls.stage_in_25")])
async def test_a_stage_calls_few_commands(played: Played, batch: int, figure: str) -> None:
    """From ready to completed: its part of the exchange that claims it, and of the one that reports it."""
    await played.submit(batch)
    keeps_to_budget(figure, await played.cost(played.run_stages(batch)) / (STAGES * batch))


async def test_a_claim_calls_few_commands_however_many_tenants_wait(played: Played) -> None:
    for number in range(4):
        waiting = range(250 * number, 250 * (number + 1))
        await played.store.submit([(f"of{each}", chain(KEY).with_options(tenant=f"t{each}")) for each in waiting])
        if number in (0, 3):
            keeps_to_budget("calls.claim_of_tenants", await played.cost(played.actor.claim(BATCH)) / BATCH)


async def test_what_workers_call_beside_their_work_calls_few_commands(played: Played) -> None:
    store, tag, holder = played.store, played.tag, played.actor.id
    keeps_to_budget("calls.register", await played.cost_again("register", "another", LEASE_MS, b"\x90"))
    keeps_to_budget("calls.renew", await played.cost_again("renew", LEASE_MS, holder))
    keeps_to_budget("calls.overdue", await played.cost_again("overdue", LEASE_MS))
    await store.rescue(tag, "nobody", "it is gone", is_crash=False)
    await played.submit(1)
    await played.actor.claim_one()
    keeps_to_budget("calls.rescue", await played.cost(store.rescue(tag, holder, "it is gone", is_crash=False)))


async def test_what_steers_flows_calls_few_commands(played: Played) -> None:
    keeps_to_budget("calls.define", await played.cost_again("define", "digest", "b0", b"\x90", 1_000, "chain", ""))
    for is_counted in (False, True):  # the first time the server has to learn the scripts, and the client the plan
        flow_id = await played.submit(1)
        cancelling = await played.cost(played.store.cancel(flow_id, "not needed", STAGES))
        snapshot = await snapshots(played.store).snapshot(flow_id)
        retrying = await played.cost(played.store.retry(flow_id, snapshot.seq, again(snapshot, chain(KEY).plan)))
        await played.run_stages(1)
        ended = [chain(KEY).plan.digest.encode() + flow_id.encode()]
        pruning = await played.cost(played.store.prune(played.tag, 2**50, ended))
        if is_counted:
            keeps_to_budget("calls.cancel", cancelling)
            keeps_to_budget("calls.retry", retrying)
            keeps_to_budget("calls.prune", pruning)


# ── what workers call ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(server: House, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What clients of this process ask this server for, counted by the clients."""
    asked = Asked()
    patiently, run = Connection._patiently, Connection.run

    async def counted(connection: Connection, *args: Any) -> Any:
        asked.round_trips += connection.url == server.url
        return await patiently(connection, *args)

    async def named(connection: Connection, name: str, *args: Any, **options: Any) -> Any:
        answer = await run(connection, name, *args, **options)
        if connection.url == server.url:
            asked.exchanges += name == "exchange"
            if name == "renew":  # after it, for before a connection's first script its rights are tried
                asked.note_renewal(args[0])
        return answer

    monkeypatch.setattr(Connection, "_patiently", counted)
    monkeypatch.setattr(Connection, "run", named)
    return asked


class Asked:
    """What was asked.

    Attributes:
        round_trips: all of it.
        exchanges: the part that reports and claims stages.
        renewed: set with each renewal of a lease, of all partitions.
    """

    def __init__(self) -> None:
        self.round_trips = 0
        self.exchanges = 0
        self.renewed = threading.Event()
        self._first_renewed = ""

    def note_renewal(self, tag: str) -> None:
        """Of one partition; those of the others are sent in a row with it."""
        self._first_renewed = self._first_renewed or tag
        if tag == self._first_renewed:
            self.renewed.set()

    async def until_renewed(self) -> None:
        """Waits for the next renewal."""
        self.renewed.clear()
        assert await asyncio.to_thread(self.renewed.wait, PATIENCE)


async def _run_waiting_flows(server: House, namespace: str, asked: Asked, at_once: int) -> tuple[float, float]:
    """What a worker asks, and what the server does for it, for each stage; all flows wait already, and nobody follows them."""
    left, all_ran = FLOWS, asyncio.Event()

    def count(_key: str) -> None:
        nonlocal left
        left -= 1
        if not left:
            all_ran.set()

    async with FlowProducer(server.url, namespace=namespace) as producer:
        await producer.add_bulk(chain(KEY) for _ in range(FLOWS))
        exchanges, before = asked.exchanges, server.counted()
        with when_done(count):
            async with working(producer, *chain.stages(), concurrency=at_once):
                await asyncio.wait_for(all_ran.wait(), PATIENCE)
        stages, cost = FLOWS * STAGES, server.counted().since(before)
        assert len(await producer.list(state="completed", limit=FLOWS + 1)) == FLOWS
        return (asked.exchanges - exchanges) / stages, cost.commands / stages


async def test_one_chain_alone_costs_a_round_trip_per_stage_and_one_to_begin(server: House, namespace: str, asked: Asked) -> None:
    """One that claims the first stage; one per stage that reports it and claims the next."""
    async with FlowProducer(server.url, namespace=namespace) as producer:
        async with working(producer, *chain.stages()):
            await (await producer.add(chain(KEY))).result(30)  # what is read once, such as the plan
            exchanges, before = asked.exchanges, server.counted()
            for _ in range(20):
                await (await producer.add(chain(KEY))).result(30)
            keeps_to_budget("round_trips.stage_alone", (asked.exchanges - exchanges) / (20 * STAGES))
            keeps_to_budget("commands.stage_alone", server.counted().since(before).commands / (20 * STAGES))


async def test_one_chain_alone_asks_only_the_partition_where_it_is(server: House, namespace: str, asked: Asked) -> None:
    """The others are asked once a second, whatever happens elsewhere."""
    store = Store(Connection(server.url, name="budget"), namespace)
    await store.open(partitions=12)
    await store.close()
    async with FlowProducer(server.url, namespace=namespace) as producer, working(producer, *chain.stages()):
        for _ in range(50):  # in each partition, what is read once
            await (await producer.add(chain(KEY))).result(30)
        exchanges = asked.exchanges
        for _ in range(20):
            await (await producer.add(chain(KEY))).result(30)
        keeps_to_budget("round_trips.stage_alone_in_12", (asked.exchanges - exchanges) / (20 * STAGES))


async def test_under_load_a_round_trip_carries_many_stages(server: House, namespace: str, asked: Asked) -> None:
    round_trips, commands = await _run_waiting_flows(server, namespace, asked, BATCH)
    keeps_to_budget("round_trips.stage_at_25", round_trips)
    keeps_to_budget("commands.stage_at_25", commands)


async def test_a_worker_that_runs_one_stage_at_a_time_asks_once_for_each(server: House, namespace: str, asked: Asked) -> None:
    round_trips, commands = await _run_waiting_flows(server, namespace, asked, 1)
    keeps_to_budget("round_trips.stage_at_1", round_trips)
    keeps_to_budget("commands.stage_at_1", commands)


async def test_an_idle_worker_asks_seldom(server: House, namespace: str, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one renewal of its lease to the next but one: it does all then that it does more often than once a minute."""
    # The first pruning looks far back, and comes at a random moment of the first minute.
    monkeypatch.setattr(workers, "_PRUNE_SECONDS", 1e9)
    async with FlowProducer(server.url, namespace=namespace) as producer:
        async with working(producer, *chain.stages()):
            await (await producer.add(chain(KEY))).result(30)
            round_trips, commands = await _a_while(server, asked)
            keeps_to_budget("idle.round_trips", round_trips)
            keeps_to_budget("idle.commands", commands)


async def test_a_worker_whose_tenants_are_at_their_limits_asks_seldom(
    server: House, namespace: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has all permits itself: its partitions hand them to each other, and nobody else can return one."""
    monkeypatch.setattr(workers, "_PRUNE_SECONDS", 1e9)
    store = Store(Connection(server.url, name="budget"), namespace)
    await store.open(partitions=4)
    await store.close()
    async with FlowProducer(server.url, namespace=namespace) as producer:
        for number in range(10):
            await producer.set_limit(f"tenant:t{number}", concurrency=1)
        async with working(producer, tb_gated):
            flows = [await producer.add(tb_gated.flow(), tenant=f"t{number % 10}") for number in range(40)]
            for _ in range(10):
                await asyncio.to_thread(at_work.acquire)
            round_trips, commands = await _a_while(server, asked)
            for _ in flows:
                may_go.release()
            await asyncio.gather(*(flow.result(30) for flow in flows))
            keeps_to_budget("limited.round_trips", round_trips)
            keeps_to_budget("limited.commands", commands)


async def test_a_look_at_many_queues_of_many_tenants_asks_seldom(server: House, namespace: str, asked: Asked) -> None:
    """However many lanes there are: all partitions are asked at once."""
    store = Store(Connection(server.url, name="budget"), namespace)
    await store.open(partitions=12)
    flows = range(900)
    specs = [one_stage(queue=f"q{number % 10}").with_options(tenant=f"t{number // 10 % 5}") for number in flows]
    await store.submit([(f"f{number}", spec) for number, spec in zip(flows, specs, strict=True)])
    before = asked.round_trips
    found = (await Fleet(store, Views(store)).queues()).queues
    keeps_to_budget("round_trips.queues_in_12", asked.round_trips - before)
    assert [queue.ready for queue in found] == [90] * 10
    await store.close()


async def _a_while(server: House, asked: Asked) -> tuple[float, float]:
    """Round trips and commands a second, from one renewal of the lease to the next but one."""
    await asked.until_renewed()
    round_trips, before, began_at = asked.round_trips, server.counted(), asyncio.get_running_loop().time()
    for _ in range(2):
        await asked.until_renewed()
    seconds = asyncio.get_running_loop().time() - began_at
    return (asked.round_trips - round_trips) / seconds, server.counted().since(before).commands / seconds


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_waiting_chain_of_four_is_small(server: House, played: Played) -> None:
    """With its inputs, its place in the queue, in the index of live flows and in the stream of events."""
    await played.submit(BULK)  # what is kept once, such as the plan
    before = server.counted()
    for _ in range(8):
        last = await played.submit(BULK)
    keeps_to_budget("bytes.pending", server.counted().since(before).dataset / (8 * BULK))
    keeps_to_budget("bytes.pending_hash", server.client.memory_usage(played.store.keys.flow(last), samples=0) or 0)


async def test_a_completed_chain_of_four_is_small(server: House, played: Played) -> None:
    """With its inputs, four results, the times of all that happened, its place in the indexes, and all its events."""
    before = server.counted()
    for _ in range(8):
        last = await played.submit(BULK)
    await played.run_stages(BATCH)
    keeps_to_budget("bytes.completed", server.counted().since(before).dataset / (8 * BULK))
    keeps_to_budget("bytes.completed_hash", server.client.memory_usage(played.store.keys.flow(last), samples=0) or 0)


async def test_what_is_played_by_hand_is_kept_as_workers_leave_it(server: House, played: Played) -> None:
    async with FlowProducer(server.url, namespace=played.store.keys.namespace) as producer:
        async with working(producer, *chain.stages(), name=WORKER):
            flow = await producer.add(chain(KEY), id="flow-of-a-worker")
            assert await flow.result(PATIENCE) == KEY
        await played.submit(1)
        await played.run_stages(1)
    keys = [played.store.keys.flow(name) for name in (flow.id, "f1")]
    assert len({server.client.object("encoding", key) for key in keys}) == 1
    of_worker, of_hand = (server.client.memory_usage(key, samples=0) or 0 for key in keys)
    assert of_hand == pytest.approx(of_worker, rel=0.2)


# ── what is loaded ───────────────────────────────────────────────────────────────────────────────────────────────────

_LOADED = """
import sys
bare = set(sys.modules)
try:
    {deed}
except SystemExit:
    pass
new = set(sys.modules) - bare
print(len(new), sum(name.split(".")[0] == "flowq" for name in new), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("deed", "every", "own"),
    [
        ("import flowq", "modules.flowq", "modules.flowq_own"),
        ("from flowq.cli import main; main(['--help'])", "modules.help", "modules.help_own"),
        ("from flowq.cli import main; main(['inspect', 'x', '--url', {url!r}])", "modules.inspect", "modules.inspect_own"),
    ],
    ids=["import flowq", "flowq --help", "flowq inspect"],
)
def test_few_modules_are_loaded_at_the_start(server: House, deed: str, every: str, own: str) -> None:
    program = _LOADED.format(deed=deed.format(url=server.url))
    done = subprocess.run([sys.executable, "-c", program], cwd=FILE.parents[1], capture_output=True, text=True, timeout=PATIENCE)
    loaded = [int(word) for word in done.stderr.splitlines()[-1].split()]
    keeps_to_budget(every, loaded[0])
    keeps_to_budget(own, loaded[1])
