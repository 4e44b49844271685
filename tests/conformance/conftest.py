"""A producer and a worker for each test, once with one partition and once with four."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer
from flowq.store.connection import Connection
from flowq.store.store import Store


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
