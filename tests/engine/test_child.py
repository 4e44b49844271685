"""A child process by itself: it says why it can't work, and ends whatever threads its modules have started."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from flowq import FlowProducer
from flowq.engine.process.child_process import STOP, ChildExit, ChildProcess
from flowq.engine.process.parent_link import Note, Ready, Retire
from flowq.engine.process.pulse import Pulse
from flowq.engine.worker.child_options import GO, ChildOptions, Known
from flowq.store.wire import HolderInfo
from tests.engine.supervised import SOURCE, begun, supervised_in_a_thread, written
from tests.engine.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.anyio

# Not daemons: an interpreter that ends as usual waits for them.
ENDLESS_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"


class Raised:
    """One child without a supervisor, and what it says."""

    def __init__(self, child: ChildProcess, said: asyncio.Queue[Ready | Retire | Note]) -> None:
        self.child = child
        self._said = said

    async def heard(self) -> Ready | Retire | Note:
        """The next message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._said.get()

    async def exited(self) -> ChildExit:
        """Its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.child.exited()


async def raised(producer: FlowProducer, module: Path, url: str = "") -> Raised:
    """Starts a child of this module."""
    said: asyncio.Queue[Ready | Retire | Note] = asyncio.Queue()
    pulse, settings = Pulse.create(), producer._settings
    options = ChildOptions(
        modules=(str(module),), url=url or settings.url, namespace=settings.namespace, artifacts="", access=None, holder="h",
        name="tested", is_alone=False, concurrency=5, queues={}, drain_seconds=0.0, pulse_fd=pulse.fd,
    )  # fmt: skip
    child = await ChildProcess.start("flowq.engine.worker.child", options, on_message=said.put_nowait, pass_fds=(pulse.fd,))
    pulse.close()
    return Raised(child, said)


async def test_a_module_that_started_a_thread_before_it_failed_does_not_keep_the_child(
    producer: FlowProducer, tmp_path: Path
) -> None:
    one = await raised(producer, written(tmp_path, ENDLESS_THREAD + "raise RuntimeError('no licence')"))
    refusal = await one.heard()
    assert isinstance(refusal, Note)
    assert refusal.topic == "refused"
    assert "no licence" in refusal.body[0]
    assert (await one.exited()).reason == "ended with exit code 1"


async def test_a_child_without_its_server_says_so_and_ends(producer: FlowProducer, tmp_path: Path) -> None:
    one = await raised(producer, written(tmp_path, SOURCE + ENDLESS_THREAD), url="redis://127.0.0.1:1")
    known, retirement = await one.heard(), await one.heard()
    assert isinstance(known, Note)
    assert known.topic == "known"
    assert isinstance(retirement, Retire)
    assert "does not answer" in retirement.reason
    assert (await one.exited()).reason == "ended with exit code 1"


async def test_a_thread_that_its_stage_waits_for_does_not_keep_the_child(producer: FlowProducer, tmp_path: Path) -> None:
    """The loop's own end would wait for it, too."""
    one = await raised(producer, written(tmp_path))
    known, store = await one.heard(), producer._open.store
    assert isinstance(known, Note)
    can = msgspec.convert(known.body, Known)
    for tag in store.partitions:
        await store.register(tag, "h", 60_000, HolderInfo("tested", can.queues, can.stages, can.routes, 5))
    one.child.command(GO)
    await producer.add(supervised_in_a_thread.flow(str(tmp_path / "go")))
    await begun(tmp_path / "go")
    one.child.command(STOP)
    assert (await one.exited()).reason == "ended with exit code 0"


async def test_a_child_whose_lease_never_began_says_so_and_ends(producer: FlowProducer, tmp_path: Path) -> None:
    one = await raised(producer, written(tmp_path, SOURCE + ENDLESS_THREAD))
    await one.heard()
    assert await one.heard() == Ready()
    one.child.command(GO)
    assert await one.heard() == Retire("the server gave its stages to others")
    assert (await one.exited()).reason == "ended with exit code 0"
