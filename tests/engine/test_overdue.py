"""What a child leaves in shared memory of the run that has to end first is enough to report on it."""

from __future__ import annotations

import msgspec
import pytest

from flowq.engine.process.pulse import Pulse
from flowq.engine.worker.overdue import described, time_out
from flowq.model.outcome import Claim, Token
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.store.acting import Actor, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio


def test_the_longest_description_fits_in_the_page_whatever_the_stage_was_given() -> None:
    claim = Claim(
        "f" * 256, 1_000_000, "p" * 32, Token(2**40, "n" * 16), 10_000, 10_000, 2**53, 2**53,
        b"x" * 60_000, dict.fromkeys(range(60), b"x" * 1_000), f"{'q' * 128}:{'s' * 128}!",
    )  # fmt: skip
    pulse = Pulse.create()
    pulse.beat(running=1, earliest_deadline=0.0, first=described(claim))
    assert pulse.first == described(claim)
    pulse.close()


async def test_a_described_run_is_reported_as_timed_out(valkey_url: str, namespace: str) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    assert await time_out(store, actor.id, described(await actor.claim_one()))
    (run,) = (await snapshots(store).snapshot("f1")).stage("a").history
    assert (run.outcome, run.cause.partition(":")[0]) == ("failed", "StageTimedOut")
    await store.close()


@pytest.mark.parametrize(
    "wild",
    [
        {"index": 77}, {"index": -1}, {"index": 2**63}, {"plan": "no-such-digest00"}, {"flow_id": "nobody's"},
        {"token": ["1", "n"]}, {"token": [2**63, "n"]},
    ],
)  # fmt: skip
async def test_a_description_of_what_there_is_not_reports_nothing(
    valkey_url: str, namespace: str, wild: dict[str, object]
) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    fields, has_stalled = msgspec.msgpack.decode(described(claim))
    assert not await time_out(store, actor.id, msgspec.msgpack.encode((fields | wild, has_stalled)))
    assert not await time_out(store, actor.id, described(claim).replace(b"default", b"d\xfffault"))
    assert await actor.complete(claim) == ""
    await store.close()


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\xc1", b"\xff" * 1_024, b"\x81\xa1x" + b"\x91" * 1_020, msgspec.msgpack.encode({"flow_id": 1})],
)
async def test_rubbish_of_a_dying_process_is_no_description(valkey_url: str, namespace: str, rubbish: bytes) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    assert not await time_out(store, "nobody", rubbish)
    await store.close()
