"""A store in a namespace of its own, once with one partition and once with four."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.store.acting import Actor


@pytest.fixture(params=[1, 4], ids=["1 partition", "4 partitions"])
async def store(anyio_backend: str, valkey_url: str, namespace: str, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An open store on a real server."""
    opened = Store(Connection(valkey_url, name="test"), namespace)
    await opened.open(partitions=request.param)
    yield opened
    await opened.close()


@pytest.fixture
async def actor(store: Store) -> Actor:
    """A registered holder."""
    return await Actor(store).begin()
