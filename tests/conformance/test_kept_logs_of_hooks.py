"""How long what hooks logged is kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.hooks import FlowEnd
from tests.conformance.after_the_end import hooks_ended, pruner_of
from tests.conformance.scene import gate
from tests.engine.waiting import in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio

log = logging.getLogger("kept")


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    """Programs choose what is logged, flowq does not."""
    before, log.level = log.level, logging.INFO
    yield
    log.level = before


@stage
async def lh_work(text: str) -> str:
    log.info("work %s", text)
    return text


@stage
def lh_after(end: FlowEnd) -> None:
    log.info("after %s", end.flow_id)
    if end.flow_id == "held":
        gate.stop()


@pipeline(finally_=lh_after)
def lh_whole(text: str) -> str:
    return lh_work(text)


async def test_what_hooks_logged_goes_with_what_their_flow_did(producer: FlowProducer) -> None:
    async with working(producer, lh_work, lh_after, concurrency=4):
        done, held = [await producer.add(lh_whole("a"), id=name) for name in ("done", "held")]
        await hooks_ended(done)
        await held.result(30)
        await gate.until_arrived()
        hooks = [producer.flow(f"{name}^end") for name in ("done", "held")]
        for hook in hooks:
            await in_the_end(hook.logs)
        await pruner_of(producer, logs_ms=-2 * 3_600_000).run_once()
        assert [len(await flow.logs()) for flow in (done, held)] == [0, 0]
        assert [len(await flow.logs()) for flow in hooks] == [0, 1], "it has not ended"
        gate.opened.set()
