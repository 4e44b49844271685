"""A supervisor and its children: when it is ready, when it ends, and that it ends whatever is stuck."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowProducer
from flowq.engine.worker import supervisor as supervisors
from flowq.engine.worker.supervisor import Supervisor
from flowq.errors import InvalidValue, ModuleNotLoaded
from flowq.settings import Settings
from tests.engine.processes import wait_until_gone
from tests.engine.supervised import SOURCE, begun, locked, options_for, supervised_quick, supervised_while_locked, written
from tests.engine.test_health import asked, free_port
from tests.engine.waiting import PATIENCE_SECONDS, closed_connections_of, in_the_end

pytestmark = pytest.mark.anyio


def settings_of(producer: FlowProducer) -> Settings:
    """The producer's server and namespace."""
    return Settings(url=producer._settings.url, namespace=producer._settings.namespace, artifacts=producer._settings.artifacts)


@contextlib.asynccontextmanager
async def supervised(producer: FlowProducer, module: Path, **options: Any) -> AsyncIterator[Supervisor]:
    """A supervisor that works until the block ends; what it raises is raised there."""
    supervisor = Supervisor(settings_of(producer), options_for(module, **options))
    running = asyncio.create_task(supervisor.run())

    async def works() -> bool:
        return running.done() or (len(supervisor._nurses) == 2 and all(nurse.is_working for nurse in supervisor._nurses))

    await in_the_end(works)
    try:
        yield supervisor
    finally:
        if not running.done():
            supervisor.stop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await running


def pids_of(supervisor: Supervisor) -> list[int]:
    """Its children's."""
    return [nurse._child.pid for nurse in supervisor._nurses if nurse._child is not None]


async def test_it_is_ready_as_long_as_all_its_children_work(producer: FlowProducer, tmp_path: Path) -> None:
    port = free_port()

    async def says(status: bytes) -> bool:
        return status in await asked(port, b"GET /readyz HTTP/1.1\r\n\r\n")

    async with supervised(producer, written(tmp_path), health_port=port) as supervisor:
        assert await says(b"200")
        os.kill(pids_of(supervisor)[0], signal.SIGKILL)
        await in_the_end(lambda: says(b"503"))
        await in_the_end(lambda: says(b"200"))


async def test_it_ends_by_itself_when_it_was_idle_for_long_enough(producer: FlowProducer, tmp_path: Path) -> None:
    flow = await producer.add(supervised_quick.flow())
    supervisor = Supervisor(settings_of(producer), options_for(written(tmp_path), idle_timeout_ms=100))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await supervisor.run()
    assert (await flow.inspect()).state == "completed"
    assert not await producer.workers()


async def test_it_ends_by_itself_when_nothing_is_left_to_do(producer: FlowProducer, tmp_path: Path) -> None:
    flows = await producer.add_bulk(supervised_quick.flow() for _ in range(20))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await Supervisor(settings_of(producer), options_for(written(tmp_path), burst=True)).run()
    assert {(await flow.inspect()).state for flow in flows} == {"completed"}


async def test_a_module_that_can_not_be_loaded_ends_it(producer: FlowProducer, tmp_path: Path) -> None:
    module = written(tmp_path, "import no_such_package")
    with pytest.raises(ModuleNotLoaded, match="no_such_package"):
        await Supervisor(settings_of(producer), options_for(module)).run()


async def test_a_taken_health_port_is_said_and_nothing_stays_open(producer: FlowProducer, tmp_path: Path) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with taken:
        with pytest.raises(InvalidValue, match="health port"):
            await Supervisor(settings_of(producer), options_for(written(tmp_path), health_port=port, name="unlucky")).run()
    await closed_connections_of("flowq:worker:unlucky", producer._open.store.connection.command)


async def test_a_child_that_does_not_listen_is_killed_and_what_it_ran_is_handed_back(
    producer: FlowProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "_END_SECONDS", 0.5)
    with locked(tmp_path / "busy") as path:
        async with supervised(producer, written(tmp_path)) as supervisor:
            flow = await producer.add(supervised_while_locked.flow(path))
            await begun(tmp_path / "busy")
            stopped = pids_of(supervisor)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
        for pid in stopped:
            wait_until_gone(pid)
    back = (await flow.inspect()).stage("supervised_while_locked")
    assert (back.state, back.attempt, back.crashes) == ("ready", 0, 0)


async def test_told_twice_it_does_not_wait_for_the_drain_of_a_child_that_does_not_listen(
    producer: FlowProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "_END_SECONDS", 0.5)
    with locked(tmp_path / "busy") as path:
        async with supervised(producer, written(tmp_path), drain_timeout_ms=100 * 1_000) as supervisor:
            flow = await producer.add(supervised_while_locked.flow(path))
            await begun(tmp_path / "busy")
            for pid in pids_of(supervisor):
                os.kill(pid, signal.SIGSTOP)
            supervisor.stop()
    assert (await flow.inspect()).stage("supervised_while_locked").state == "ready"


async def test_told_to_stop_before_its_children_work_it_ends(producer: FlowProducer, tmp_path: Path) -> None:
    supervisor = Supervisor(settings_of(producer), options_for(written(tmp_path, "import time; time.sleep(600)")))
    running = asyncio.create_task(supervisor.run())

    async def has_children() -> bool:
        return len(pids_of(supervisor)) == 2

    await in_the_end(has_children)
    supervisor.stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await running
    await closed_connections_of(f"flowq:worker:{supervisor._name}", producer._open.store.connection.command)


async def test_it_says_at_its_start_what_it_serves_and_which_queue_no_stage_is_on(
    producer: FlowProducer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def has_told() -> bool:
        return "no stage is on queue gpo" in caplog.text

    with caplog.at_level("INFO", logger="flowq.engine"):
        async with supervised(producer, written(tmp_path), queues={"default": None, "gpo": None}) as supervisor:
            await in_the_end(has_told)
    assert f"worker {supervisor._name} serves " in caplog.text
    assert "queues: default, gpo" in caplog.text


async def test_its_children_tell_how_much_of_the_hosts_room_is_in_use(producer: FlowProducer, tmp_path: Path) -> None:
    plain = "@stage\nasync def supervised_while_locked"
    module = written(tmp_path, SOURCE.replace(plain, plain.replace("@stage", '@stage(needs={"gpu": 2})')))
    async with supervised(producer, module, has={"gpu": 3}):
        with locked(tmp_path / "lock") as path:
            flow = await producer.add(supervised_while_locked.flow(path))
            await begun(tmp_path / "lock")
            assert [worker.in_use for worker in await producer.workers()] == [{"gpu": 2}] * 2
        assert await flow.result(PATIENCE_SECONDS) == 1
