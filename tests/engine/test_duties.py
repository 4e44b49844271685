"""The duties of a worker: each may run in many processes at once, and one that meets damage goes on with the rest."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from flowq import Artifact, Backoff, FlowProducer, context, stage
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.duties.duties import Closer, Pruner, Rescuer, Sweeper, WayMaker, rescue
from flowq.store.connection import Connection
from flowq.store.retentions import Retention
from flowq.store.store import Store
from flowq.store.views import Views
from tests.engine.processes import PATIENCE_SECONDS, running_python
from tests.engine.work import outcome, until, working
from tests.store.acting import Actor, everything
from tests.store.graphs import drawn, one_stage, wide
from tests.store.test_leases import lease_ran_out, suspected_for_long

pytestmark = pytest.mark.anyio


async def test_two_rescuers_at_once_take_nothing_twice(producer: FlowProducer) -> None:
    store = producer._open.store
    actor = await Actor(store).begin()
    await store.submit([(f"f{number}", one_stage()) for number in range(20)])
    await actor.claim(20)
    await lease_ran_out(store, store.partitions[0], actor.id)
    await asyncio.gather(*(Rescuer(store).run_once() for _ in range(5)))
    await suspected_for_long(store, store.partitions[0], actor.id)
    await asyncio.gather(*(Rescuer(store).run_once() for _ in range(5)))
    heir = await Actor(store).begin()
    assert len(await heir.claim(50, ["default:a!"])) == 20
    assert await store.lease_of(store.partitions[0], actor.id) is None


async def test_a_rescue_says_how_many_it_took(producer: FlowProducer, caplog: pytest.LogCaptureFixture) -> None:
    store = producer._open.store
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    assert await rescue(store, actor.id, "gone") == 1
    assert await rescue(store, "nobody", "gone") == 0
    assert [record.message for record in caplog.records] == [f"rescued 1 stage of {actor.id}: gone"]


@pytest.fixture
async def store_of_two(valkey_url: str, namespace: str) -> AsyncIterator[Store]:
    """A store with two partitions."""
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open(partitions=2)
    yield store
    await store.close()


async def test_way_is_made_in_the_partitions_where_a_suspect_can_still_be_claimed(store_of_two: Store) -> None:
    store = store_of_two
    flows = {store.keys.tag_of(flow_id): flow_id for flow_id in ("f1", "f2", "f3", "f4")}
    assert len(flows) == 2
    await store.submit([(flow_id, one_stage()) for flow_id in flows.values()])
    actor = await Actor(store).begin()
    first, _ = await actor.claim(2)
    await rescue(store, actor.id, "killed by SIGKILL")
    room = WorkerRoom({"default": ["default:a"]}, 5)
    way_maker = WayMaker(Views(store), room)
    one, other = store.partitions

    room.give_back(room.take(1), [first])
    await way_maker.run_once()
    room.ended(first)
    assert not room.admits(other), "it is the turn of the first partition's suspect"
    await store.cancel(flows[one], "", 1)
    await way_maker.run_once()
    assert not room.admits(one)
    assert room.admits(other), "what was cancelled waits no more, though it is still in its lane"
    await store.cancel(flows[other], "", 1)
    await way_maker.run_once()
    room.leave(one)
    taken = room.take(50, other)
    assert (taken.capacity, [want.routes for want in taken.wants]) == (5, [("default:a",)])


async def test_way_is_made_for_a_sixth_of_the_time_and_longer_each_time(producer: FlowProducer) -> None:
    """Else one suspect would shut a worker for as long as its longest stage runs; or, never long enough, wait for ever."""
    store = producer._open.store
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage()), ("f2", one_stage())])
    first, _ = await actor.claim(2)
    await rescue(store, actor.id, "killed by SIGKILL")
    room, now = WorkerRoom({"default": ["default:a"]}, 5), 1_000
    room.give_back(room.take(1), [first])
    way_maker = WayMaker(Views(store), room, lambda: now)
    made: list[int] = []
    for now in range(1_000, 1_240, 5):
        await way_maker.run_once()
        made += [] if room.admits("elsewhere") else [now - 1_000]
        room.leave("elsewhere")
    assert made == [0, 5, 60, 65, 70, 75, 180, 185, 190, 195, 200, 205, 210, 215]


async def test_two_closers_at_once_end_a_flow_once(producer: FlowProducer) -> None:
    store = producer._open.store
    await store.submit([("f1", wide(1_600))])
    retention = msgspec.msgpack.encode(Retention())
    await store.connection.run("cancel", store.partitions[0], "f1", "", "n", 1_601, retention)
    await asyncio.gather(*(Closer(store, Views(store)).run_once() for _ in range(3)))
    snapshot = await until(producer.flow("f1"), lambda snapshot: snapshot.is_final)
    assert {known.state for known in snapshot.graph} == {"cancelled"}


async def test_two_pruners_at_once_remove_each_flow_once(producer: FlowProducer) -> None:
    store = producer._open.store
    await store.submit([(f"f{number}", one_stage()) for number in range(21)])
    for number in range(20):
        await store.cancel(f"f{number}", "", 1)
    store.retention = Retention(-1_000, -1_000, -1_000)
    removed = await asyncio.gather(*(Pruner(store, Views(store)).run_once() for _ in range(4)))
    assert sum(removed) == 20
    # The plan is still there for the one that lives.
    assert await (await Actor(store).begin()).finish() == 1


async def is_done(duty: Pruner, connection: Connection, answers: int) -> bool:
    """Whether the duty is done with so many answers of the server; else it is cancelled when it asks again."""
    real, asked = connection._patiently, itertools.count()

    async def patiently(*words: Any) -> Any:
        if next(asked) >= answers:
            raise asyncio.CancelledError
        return await real(*words)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(connection, "_patiently", patiently)
        try:
            await duty.run_once()
        except asyncio.CancelledError:
            return False
    return True


async def test_a_pruner_may_be_stopped_anywhere_and_another_goes_on(producer: FlowProducer) -> None:
    store = producer._open.store
    store.retention = Retention(completed_ms=-3_600_000)
    await store.submit([(f"f{number}", drawn({f"a-{number}": []})) for number in range(250)])  # each of a plan of its own
    assert await (await Actor(store).begin()).finish() == 250
    pruner, answers = Pruner(store, Views(store)), itertools.count()
    pruner._hours = 2
    while not await is_done(pruner, store.connection, next(answers)):
        pass
    left = {key.partition(b"}")[2][:3] for key in await everything(store)}
    assert left.isdisjoint({b":f:", b":p:"})


async def test_sweeping_takes_what_no_run_has_committed_and_leaves_the_rest(producer: FlowProducer) -> None:
    @stage(attempts=2, backoff=Backoff.none())
    async def write_down() -> Artifact:
        async with context().new_artifact("a.txt") as sink:
            await sink.write(b"data")
        if context().attempt == 1:
            raise OSError("after the upload")
        return sink.artifact

    async with working(producer, write_down):
        flow = await producer.add(write_down.flow())
        artifact = await outcome(flow)
    storage, views = producer.storage, Views(producer._open.store)
    assert len(list(storage.objects())) == 2
    await Sweeper(views, lambda: storage, grace_seconds=-1).run_once()
    assert [found.key for found in storage.objects()] == [artifact.key]
    with artifact.open() as stream:
        assert stream.read() == b"data"


_SWEEP = """
import asyncio, sys
from typing import Any
from flowq.artifacts import open_storage
from flowq.engine.duties.duties import Sweeper
from flowq.settings import S3Access

async def main(unused: Any = None):
    storage = open_storage("s3://bucket/prefix", S3Access(sys.stdin.readline().strip(), "key", "secret", "us-east-1"))
    sweeping = asyncio.create_task(Sweeper(unused, lambda: storage).run_once())
    await asyncio.to_thread(sys.stdin.readline)
    sweeping.cancel()

asyncio.run(main())
"""


def test_a_storage_that_never_answers_does_not_keep_the_process_that_sweeps_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf, running_python(_SWEEP) as process:
        assert process.stdin is not None
        process.stdin.write(f"http://127.0.0.1:{deaf.getsockname()[1]}\n")
        process.stdin.flush()
        asking, _ = deaf.accept()
        with asking:
            assert asking.recv(1)
            process.stdin.write("end\n")
            process.stdin.flush()
            assert process.wait(PATIENCE_SECONDS) == 0
