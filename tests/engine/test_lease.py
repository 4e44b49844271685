"""The lease of a worker in one's own process: renewed from a thread, and lost in time to stop."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import time

import pytest

from flowq import FlowProducer
from flowq.engine.duties import lease as leases
from flowq.engine.duties.lease import LeaseKeeper
from tests.engine.waiting import in_the_end
from tests.servers import running_valkey
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio
LEASE_MS = 1_000


class Lost:
    """What the keeper says when the lease is lost."""

    def __init__(self) -> None:
        self._told = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.why = ""
        self.at = 0.0

    def __call__(self, why: str) -> None:
        self.why, self.at = why, time.monotonic()
        self._loop.call_soon_threadsafe(self._told.set)

    async def heard(self) -> None:
        """Waits for it."""
        async with asyncio.timeout(10):
            await self._told.wait()


@pytest.fixture
async def actor(producer: FlowProducer) -> Actor:
    """A holder with a lease of one second."""
    return await Actor(producer._open.store).begin(LEASE_MS)


async def test_a_lease_is_renewed_until_the_keeper_is_stopped(producer: FlowProducer, actor: Actor) -> None:
    store, tag = actor.store, actor.store.partitions[0]
    keeper = LeaseKeeper(store.connection.url, store.keys.namespace, actor.id, LEASE_MS, Lost())
    first = await store.lease_of(tag, actor.id)
    assert first is not None
    keeper.start()

    async def is_renewed() -> bool:
        return (await store.lease_of(tag, actor.id) or 0) >= first + LEASE_MS

    await in_the_end(is_renewed)
    keeper.stop()
    assert not keeper._thread.is_alive()


async def test_a_rescued_holder_is_told_that_its_stages_are_gone(producer: FlowProducer, actor: Actor) -> None:
    lost = Lost()
    keeper = LeaseKeeper(actor.store.connection.url, actor.store.keys.namespace, actor.id, LEASE_MS, lost)
    keeper.start()
    await actor.store.rescue(actor.store.partitions[0], actor.id, "gone", is_crash=False)
    await lost.heard()
    assert lost.why == "the server gave its stages to others"


async def test_who_stood_still_for_longer_than_the_lease_gives_it_up(
    producer: FlowProducer, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has rescued it: renewed it would go on, but permits of limits have gone to others."""
    lost, slept = Lost(), [0.0]
    monkeypatch.setattr(leases, "now_awake", lambda: time.monotonic() + slept[0])
    keeper = LeaseKeeper(actor.store.connection.url, actor.store.keys.namespace, actor.id, LEASE_MS, lost)
    first = await actor.store.lease_of(actor.store.partitions[0], actor.id)
    assert first is not None
    keeper.start()

    async def is_renewed() -> bool:
        return (await actor.store.lease_of(actor.store.partitions[0], actor.id) or 0) > first

    await in_the_end(is_renewed)
    slept[0] = 2 * LEASE_MS / 1000
    await lost.heard()
    assert lost.why == "this process stood still for longer than it lasts"


async def test_a_keeper_that_waits_for_a_server_ends_as_soon_as_it_is_told(anyio_backend: str) -> None:
    """Its thread may not outlive the interpreter, whatever it waits for."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        keeper = LeaseKeeper(f"redis://127.0.0.1:{deaf.getsockname()[1]}", "n", "holder", 6 * LEASE_MS, Lost())
        keeper.start()
        asking, _ = await asyncio.to_thread(deaf.accept)
        with asking:
            assert await asyncio.to_thread(asking.recv, 1)
            keeper.stop()
    assert not keeper._thread.is_alive()


@pytest.mark.parametrize("outage", ["gone", "stopped"])
async def test_a_lease_that_can_not_be_renewed_is_given_up_before_it_ends(outage: str, anyio_backend: str) -> None:

    with running_valkey() as url:
        async with FlowProducer(url, namespace=f"t{secrets.token_hex(4)}") as producer:
            store = producer._open.store
            actor = await Actor(store).begin(LEASE_MS)
            server = int((await store.connection.command("INFO"))["process_id"])
            lost = Lost()
            began_at = time.monotonic()
            LeaseKeeper(url, store.keys.namespace, actor.id, LEASE_MS, lost).start()
            os.kill(server, signal.SIGKILL if outage == "gone" else signal.SIGSTOP)
            try:
                await lost.heard()
            finally:
                if outage == "stopped":
                    os.kill(server, signal.SIGCONT)
            store.connection.patience = 0
    assert "could not be renewed" in lost.why
    assert lost.at - began_at < LEASE_MS / 1000 + 0.2
