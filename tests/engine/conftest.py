"""A producer on the tests' own server, in a namespace of the test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from flowq import FlowProducer


@pytest.fixture
async def producer(anyio_backend: str, valkey_url: str, namespace: str, artifacts: str) -> AsyncIterator[FlowProducer]:
    """An open producer with a directory for artifacts."""
    async with FlowProducer(valkey_url, namespace=namespace, artifacts=artifacts) as opened:
        yield opened


@pytest.fixture
def threads_take_turns_often() -> Iterator[None]:
    """A thread is interrupted after a microsecond, wherever it is."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
