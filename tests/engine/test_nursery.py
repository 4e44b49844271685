"""One child after another: replaced when it dies, tried again when it can't begin, and no longer than it is wanted."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowProducer
from flowq.engine.process.child_process import ChildProcess
from flowq.engine.worker.child_options import ChildOptions
from flowq.engine.worker.nursery import Nurse
from flowq.engine.worker.overdue import described
from flowq.errors import FlowqError, ModuleNotLoaded, ServerUnreachable
from flowq.model.outcome import Claim, Token
from tests.engine.supervised import SOURCE, begun, locked, supervised_quick, supervised_while_locked, written
from tests.engine.waiting import PATIENCE_SECONDS, in_the_end
from tests.engine.work import count_open

pytestmark = pytest.mark.anyio

LEASE_MS = 15_000


class Nursery:
    """A nurse, and what it gave up for."""

    def __init__(self, producer: FlowProducer, module: Path) -> None:
        self.given_up: list[FlowqError] = []
        settings = producer._settings
        template = ChildOptions(
            modules=(str(module),), url=settings.url, namespace=settings.namespace, artifacts=settings.artifacts, access=None,
            holder="", name="tested", is_alone=False, concurrency=5, queues={}, drain_seconds=0.0, pulse_fd=-1,
        )  # fmt: skip
        self.nurse = Nurse(producer._open.store, template, LEASE_MS, self.given_up.append)

    @property
    def pid(self) -> int:
        """Its child's."""
        assert self.nurse._child is not None
        return self.nurse._child.pid

    async def working(self, but: str = "") -> str:
        """The holder's id, once the child works under one that is not `but`."""
        return await in_the_end(lambda: self._holder(but))

    async def _holder(self, but: str) -> str:
        return self.nurse.holder if self.nurse.is_working and self.nurse.holder != but else ""


@pytest.fixture
async def raised(producer: FlowProducer, tmp_path: Path) -> AsyncIterator[Callable[[], Nursery]]:
    """Begins to raise children of the test's module; ended with the test."""
    nurseries: list[tuple[Nursery, asyncio.Task[None]]] = []

    def begin() -> Nursery:
        nursery = Nursery(producer, tmp_path / "stages_of_test.py")
        nurseries.append((nursery, asyncio.create_task(nursery.nurse.care())))
        return nursery

    yield begin
    for nursery, caring in nurseries:
        nursery.nurse.drain(at_once=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await caring


async def test_a_child_that_is_killed_is_replaced_by_one_with_another_id(
    raised: Callable[[], Nursery], producer: FlowProducer, tmp_path: Path
) -> None:
    written(tmp_path)
    nursery = raised()
    first = await nursery.working()
    os.kill(nursery.pid, signal.SIGKILL)
    second = await nursery.working(but=first)
    assert [worker.id for worker in await producer.workers()] == [second]
    assert await (await producer.add(supervised_quick.flow())).result(PATIENCE_SECONDS) == "done"


async def test_a_module_that_can_not_be_loaded_at_first_is_given_up(raised: Callable[[], Nursery], tmp_path: Path) -> None:
    written(tmp_path, "raise RuntimeError('no licence')")
    nursery = raised()
    assert await nursery.nurse.known() is None
    (error,) = nursery.given_up
    assert isinstance(error, ModuleNotLoaded)
    assert "no licence" in error.problem


async def test_a_module_that_is_broken_later_is_tried_again_until_it_is_mended(
    raised: Callable[[], Nursery], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody edits it while the worker runs, and a child dies in between."""
    module = written(tmp_path)
    nursery = raised()
    first = await nursery.working()
    module.write_text("def broken(:")
    os.kill(nursery.pid, signal.SIGKILL)

    async def is_refused() -> bool:
        return "can't begin again yet" in caplog.text

    with caplog.at_level(logging.WARNING, "flowq.engine"):
        await in_the_end(is_refused)
    assert "SyntaxError" in caplog.text
    module.write_text(SOURCE)
    await nursery.working(but=first)
    assert not nursery.given_up


async def test_a_child_that_the_system_refuses_is_said_once_and_tried_again_while_others_work(
    raised: Callable[[], Nursery], producer: FlowProducer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    written(tmp_path)
    other = raised()
    await other.working()
    descriptors = count_open()
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    monkeypatch.setattr(sys, "executable", str(interpreter))
    tries: list[OSError] = []
    start = ChildProcess.start

    async def noted(*words: Any, **options: Any) -> ChildProcess:
        try:
            return await start(*words, **options)
        except OSError as error:
            tries.append(error)
            raise

    monkeypatch.setattr(ChildProcess, "start", noted)
    nursery = raised()

    async def was_tried_again() -> bool:
        return len(tries) >= 3

    await in_the_end(was_tried_again)
    assert isinstance(tries[0], PermissionError)
    said = [record.getMessage() for record in caplog.records if "can't be started" in record.getMessage()]
    assert said == [f"child tested can't be started, and is tried again: {tries[0]}"]
    assert count_open() == descriptors
    assert await (await producer.add(supervised_quick.flow())).result(PATIENCE_SECONDS) == "done"
    interpreter.chmod(0o700)
    assert await nursery.working()
    assert not nursery.given_up


async def test_a_child_whose_stages_can_not_be_rescued_for_want_of_descriptors_is_replaced_nevertheless(
    raised: Callable[[], Nursery], producer: FlowProducer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    async def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    written(tmp_path)
    nursery = raised()
    first = await nursery.working()
    monkeypatch.setattr(producer._open.store, "rescue", refuse)
    os.kill(nursery.pid, signal.SIGKILL)
    assert await nursery.working(but=first)
    assert "could not be rescued: [Errno 24] Too many open files" in caplog.text


@pytest.mark.parametrize("fault", ["of the page", "of the server"])
async def test_what_a_child_ran_is_taken_back_also_if_it_can_not_be_told_which_of_it_was_overdue(
    raised: Callable[[], Nursery], producer: FlowProducer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    async def unreachable(*_: Any) -> Any:
        raise ServerUnreachable("redis://elsewhere", "silence")

    written(tmp_path)
    nursery = raised()
    first = await nursery.working()
    with locked(tmp_path / "busy") as path:
        spec = supervised_while_locked.flow(path)
        flow = await producer.add(spec)
        await begun(tmp_path / "busy")
        os.kill(nursery.pid, signal.SIGSTOP)
        assert nursery.nurse._pulse is not None
        wild = Claim(flow.id, 77, spec.plan.digest, Token(1, "n"), 1, 0, 0, 0, b"", None, "default:a")
        nursery.nurse._pulse.beat(running=1, earliest_deadline=0.0, first=described(wild))
        if fault == "of the server":
            monkeypatch.setattr(producer._open.store, "plan", unreachable)
        nursery.nurse.watch()
        assert await nursery.working(but=first)
        monkeypatch.undo()
        (run,) = (await flow.inspect()).stage("supervised_while_locked").history
        assert (run.outcome, run.cause) == ("rescued", "a stage did not stop at its timeout")


async def test_what_a_stopped_child_ran_goes_on_when_it_is_killed_and_costs_no_attempt_if_nothing_crashed(
    raised: Callable[[], Nursery], producer: FlowProducer, tmp_path: Path
) -> None:
    written(tmp_path)
    nursery = raised()
    first = await nursery.working()
    with locked(tmp_path / "busy") as path:
        flow = await producer.add(supervised_while_locked.flow(path))
        await begun(tmp_path / "busy")
        os.kill(nursery.pid, signal.SIGSTOP)
        nursery.nurse.kill("its lease was lost", is_crash=False)
    assert await flow.result(PATIENCE_SECONDS) == 1
    assert await nursery.working(but=first)
    done = (await flow.inspect()).stage("supervised_while_locked")
    assert [(run.outcome, run.cause) for run in done.history] == [("rescued", "its lease was lost")]
    assert done.crashes == 0
