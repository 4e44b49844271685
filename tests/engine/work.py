"""Flows and workers in this process, for the tests of the engine: what they share, and how a test waits for a stage."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from flowq import FlowHandle, FlowProducer, Worker
from flowq.errors import FlowqError
from flowq.model.event import Event
from flowq.model.snapshot import FlowSnapshot
from flowq.pipeline.stage import AnyStage
from tests.engine.waiting import in_the_end

# Longer than anything here takes, on the slowest machine.
PATIENCE = 30.0


class Gate:
    """A stage stops here until the test lets it on; either side may be in any thread.

    Attributes:
        arrived: set when a stage has come to the gate.
        opened: set when stages may pass.
    """

    def __init__(self) -> None:
        self.close()

    def close(self) -> None:
        """Called by the test: as if it were new."""
        self.arrived = threading.Event()
        self.opened = threading.Event()

    def stop(self) -> None:
        """Called by a plain stage: waits."""
        self.arrived.set()
        assert self.opened.wait(PATIENCE), "nobody opened the gate"

    async def stop_async(self) -> None:
        """Called by an async stage: waits."""
        self.arrived.set()
        while not self.opened.is_set():  # noqa: ASYNC110  the test may open it from another thread
            await asyncio.sleep(0.005)

    async def until_arrived(self) -> None:
        """Called by the test: waits for a stage."""
        assert await asyncio.to_thread(self.arrived.wait, PATIENCE), "no stage came to the gate"


@contextlib.asynccontextmanager
async def working(producer: FlowProducer, *stages: AnyStage, **options: Any) -> AsyncIterator[Worker]:
    """A worker that runs these stages until the block ends; what it raises is raised there."""
    worker = Worker(
        producer._settings.url, stages=stages, namespace=producer._settings.namespace,
        **{"artifacts": producer._settings.artifacts, "drain_timeout": 1, **options},
    )  # fmt: skip
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.stop()
        await asyncio.wait_for(task, PATIENCE)


async def until(flow: FlowHandle[Any], holds: Callable[[FlowSnapshot], bool]) -> FlowSnapshot:
    """The first snapshot of which `holds` is true."""

    async def seen() -> FlowSnapshot | None:
        snapshot = await flow.inspect()
        return snapshot if holds(snapshot) else None

    return await in_the_end(seen, PATIENCE)


async def outcome(flow: FlowHandle[Any]) -> Any:
    """The flow's result, or its error."""
    try:
        return await flow.result(PATIENCE)
    except FlowqError as error:
        return error


async def told(flow: FlowHandle[Any], after: int = 0) -> list[str]:
    """All numbered events of a flow until its end, as `verb` or `verb stage`."""
    async with asyncio.timeout(PATIENCE):
        return [
            f"{event.verb} {event.stage}" if event.stage else event.verb
            async for event in flow.events(after)
            if isinstance(event, Event) and event.seq
        ]


def count_open(path: str = "/proc/self/fd") -> int:
    """How many descriptors this process has."""
    return len(os.listdir(path))
