"""A producer for each test, once with one partition and once with four, and a fresh scene."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from flowq import FlowProducer
from flowq.engine.exchange import conversation, notes
from flowq.engine.run import limiter, reuse
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.conformance.scene import gate, set_scene


@pytest.fixture(params=[1, 4], ids=["1 partition", "4 partitions"])
async def producer(
    anyio_backend: str, valkey_url: str, namespace: str, artifacts: str, request: pytest.FixtureRequest
) -> AsyncIterator[FlowProducer]:
    """An open producer with a directory for artifacts."""
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open(partitions=request.param)
    await store.close()
    async with FlowProducer(valkey_url, namespace=namespace, artifacts=artifacts) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    """Nothing has run, nothing is broken, and the gate is closed; who still stands there afterwards may go."""
    set_scene()
    yield
    gate.opened.set()


@pytest.fixture(autouse=True)
def _workers_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests do behind a worker's back, such as moving a time, nobody tells it of; and logs are told as often."""
    monkeypatch.setattr(conversation, "_POLL_SECONDS", 0.2)
    monkeypatch.setattr(limiter, "_LOOK_AGAIN_MS", 200)
    monkeypatch.setattr(notes, "_LOG_SECONDS", 0.2)


@pytest.fixture
def only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for what another stage computes comes back only when it is told to."""
    monkeypatch.setattr(reuse, "_LOOK_AGAIN_MS", 600_000)
