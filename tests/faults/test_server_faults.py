"""The server is killed, stopped, emptied, filled, made a replica, while flows run."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer
from flowq.errors import FlowqError, ServerUnreachable
from flowq.store.connection import Connection
from tests.faults import stages
from tests.faults.plant import Noted, Plant, ended, producer_of
from tests.servers import running_valkey
from tests.stories.processes import all_processes

pytestmark = [pytest.mark.fault, pytest.mark.anyio, pytest.mark.timeout(180)]


async def held(plant: Plant, producer: FlowProducer) -> tuple[FlowHandle[Any], Noted]:
    """A flow whose only stage has begun and runs until there is a file `go`, and that run."""
    flow = await producer.add(stages.until_file.flow(str(plant.directory / "go")))
    (run,) = await asyncio.to_thread(plant.until_noted, "until_file")
    return flow, run


async def test_a_server_killed_again_and_again_under_load_loses_nothing_it_acknowledged(plant: Plant) -> None:
    plant.worker("--processes", "2")
    acknowledged: dict[int, FlowHandle[int]] = {}

    async def add_all(producer: FlowProducer) -> None:
        for number in range(400):
            acknowledged[number] = await producer.add(stages.three(number), id=f"n{number}")

    async with producer_of(plant) as producer:
        adding = asyncio.create_task(add_all(producer))
        for _ in range(4):
            await asyncio.sleep(0.4)
            plant.kill_server()
            await asyncio.sleep(0.2)
            await asyncio.to_thread(plant.start_server)
        await adding
        assert len(acknowledged) == 400
        results = [await flow.result(60) for flow in acknowledged.values()]
        assert results == [number + 3 for number in acknowledged]
        # Exactly once is what was committed, not what ran: one event each, whatever was sent again.
        for flow in list(acknowledged.values())[::20]:
            snapshot = await flow.inspect()
            assert {stage.state for stage in snapshot.graph} == {"completed"}
            assert all(stage.attempt == 1 and stage.crashes == 0 for stage in snapshot.graph)


async def test_a_stage_runs_through_an_outage_that_is_shorter_than_its_lease(plant: Plant) -> None:
    worker = plant.worker()
    async with producer_of(plant) as producer:
        flow, _ = await held(plant, producer)
        plant.kill_server()
        await asyncio.sleep(2.5)
        (plant.directory / "go").touch()
        await asyncio.sleep(2.5)
        await asyncio.to_thread(plant.start_server)
        snapshot = await ended(flow)
    done = snapshot.stage("until_file")
    assert (snapshot.state, done.runs, done.crashes) == ("completed", 1, 0)
    assert worker.poll() is None


@pytest.mark.alone
async def test_a_stage_is_ended_before_others_may_have_it_when_the_server_is_gone_for_too_long(plant: Plant) -> None:
    plant.short_lease_worker()
    async with producer_of(plant) as producer:
        flow, first = await held(plant, producer)
        plant.kill_server()
        gone_at = time.monotonic()
        await asyncio.to_thread(plant.until, lambda: not _lives(first.pid), 5)
        assert time.monotonic() - gone_at < 1.5, "the lease is one second"
        await asyncio.to_thread(plant.start_server)
        (plant.directory / "go").touch()
        snapshot = await ended(flow)
    done = snapshot.stage("until_file")
    assert (snapshot.state, done.attempt, done.crashes) == ("completed", 1, 0)


async def test_a_stopped_server_costs_a_short_lease_and_no_crash_is_counted(plant: Plant) -> None:
    """SIGSTOP: connections stay open and nothing answers, which is harder to notice than a closed port."""
    plant.short_lease_worker()
    async with producer_of(plant) as producer:
        flow, first = await held(plant, producer)
        plant.signal_server(signal.SIGSTOP)
        await asyncio.to_thread(plant.until, lambda: not _lives(first.pid), 5)
        plant.signal_server(signal.SIGCONT)
        (plant.directory / "go").touch()
        snapshot = await ended(flow)
    assert (snapshot.state, snapshot.stage("until_file").crashes) == ("completed", 0)


async def test_a_worker_can_be_stopped_while_its_server_is_gone(plant: Plant) -> None:
    worker = plant.worker("--drain-timeout", "1s")
    async with producer_of(plant) as producer:
        await held(plant, producer)
    plant.kill_server()
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait, 30)


async def test_a_worker_that_is_still_starting_can_be_stopped_while_its_server_is_gone(plant: Plant) -> None:
    """One child works, the other still imports its modules: it has no lease yet, and can't get one any more."""
    worker = plant.worker(module=Path(__file__).with_name("slow_second.py"))
    await asyncio.to_thread(plant.until, (plant.directory / "importing").exists)
    plant.kill_server()
    worker.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.wait, 30)


async def test_an_emptied_server_is_begun_again_on(plant: Plant) -> None:
    """Somebody flushed it, or it came back on an empty disk."""
    plant.worker()
    async with producer_of(plant) as producer:
        lost, _ = await held(plant, producer)
        plant.kill_server()
        for data in plant.directory.glob("appendonlydir/*"):
            data.unlink()
        await asyncio.to_thread(plant.start_server)
        (plant.directory / "go").touch()
        with pytest.raises(FlowqError):
            await lost.result(5)
        assert await (await producer.add(stages.three(1))).result(60) == 4


@pytest.mark.parametrize(
    "command",
    [("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")],
    ids=["scripts are forgotten", "connections are killed"],
)
async def test_what_happens_to_the_server_all_the_time_is_not_noticed(plant: Plant, command: tuple[str, ...]) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flows = await producer.add_bulk(stages.three(number) for number in range(100))
        waiting = asyncio.gather(*(flow.result(60) for flow in flows))
        while not waiting.done():
            await producer._open.store.connection.command(*command)
            await asyncio.sleep(0.05)
        assert await waiting == [number + 3 for number in range(100)]


async def test_a_full_server_runs_dry_and_takes_new_flows_again(plant: Plant) -> None:
    async with producer_of(plant) as producer:
        flows = await producer.add_bulk(stages.three(number) for number in range(50))
        command = producer._open.store.connection.command
        await command("CONFIG", "SET", "maxmemory", "1mb")
        with pytest.raises(FlowqError) as refusal:
            await producer.add(stages.three(1))
        assert refusal.value.code == "server_is_full"
        plant.worker()
        assert [await flow.result(60) for flow in flows] == [number + 3 for number in range(50)]
        await command("CONFIG", "SET", "maxmemory", "0")
        assert await (await producer.add(stages.three(1))).result(60) == 4


async def test_a_failover_in_the_middle_is_waited_out(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flow, _ = await held(plant, producer)
        command = producer._open.store.connection.command
        await command("REPLICAOF", "127.0.0.1", "1")
        (plant.directory / "go").touch()
        with pytest.raises(FlowqError) as refusal:
            await producer.add(stages.three(1))
        assert refusal.value.code == "server_is_replica"
        await asyncio.sleep(1.0)
        await command("REPLICAOF", "NO", "ONE")
        snapshot = await ended(flow)
    assert (snapshot.state, snapshot.stage("until_file").runs) == ("completed", 1)


@pytest.mark.parametrize(
    ("verb", "answer", "config", "told"),
    [
        ("GET", "slot not served", {"cluster-enabled": "yes"}, ()),
        ("GET", "is down and", {"replica-serve-stale-data": "no"}, ("REPLICAOF", "127.0.0.1", "1")),
        ("INCR", "Not enough good replicas", {"min-replicas-to-write": "1"}, ()),
    ],
    ids=["CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS"],
)
async def test_a_server_that_can_not_serve_for_now_is_asked_again(
    verb: str, answer: str, config: dict[str, str], told: tuple[str, ...], anyio_backend: str
) -> None:
    with running_valkey(config) as url:
        connection = Connection(url, patience=0)
        try:
            if told:
                await connection.command(*told)
            with pytest.raises(ServerUnreachable, match=f"is not ready: .*{answer}"):
                await connection.command(verb, "key")
            with pytest.raises(ServerUnreachable, match=f"is not ready: .*{answer}"):
                await connection.commands((verb, "key"), (verb, "another"))
        finally:
            await connection.close()


async def test_a_worker_waits_for_the_replicas_that_its_server_wants(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flow, _ = await held(plant, producer)
        command = producer._open.store.connection.command
        await command("CONFIG", "SET", "min-replicas-to-write", "1")
        (plant.directory / "go").touch()
        await asyncio.to_thread(plant.until, lambda: "NOREPLICAS" in plant.logs())
        await command("CONFIG", "SET", "min-replicas-to-write", "0")
        snapshot = await ended(flow)
    assert (snapshot.state, snapshot.stage("until_file").runs) == ("completed", 1)


async def test_a_producer_gives_up_in_time_and_says_what_it_met(plant: Plant) -> None:
    async with producer_of(plant) as producer:
        producer._open.store.connection.patience = 1.0
        plant.kill_server()
        began_at = time.monotonic()
        with pytest.raises(ServerUnreachable):
            await producer.add(stages.three(1))
        assert time.monotonic() - began_at < 5


async def test_workers_hold_a_fixed_number_of_connections_at_any_concurrency(plant: Plant) -> None:
    plant.worker("-c", "500")
    async with producer_of(plant) as producer:
        flows = await producer.add_bulk(stages.until_file.flow(str(plant.directory / "go")) for _ in range(300))
        await asyncio.to_thread(plant.until_noted, "until_file", 300)
        clients = await producer._open.store.connection.command("CLIENT", "LIST")
        (plant.directory / "go").touch()
        for flow in flows:
            await flow.result(60)
    connections = clients.decode().count(" name=flowq:worker")
    assert 0 < connections <= 3 * 6, "a supervisor, a shared child, and one for suspects"


def _lives(pid: int) -> bool:
    return pid in all_processes()
