"""Which items of a large map wait, and how many may behind those that are looked at."""

from __future__ import annotations

import pytest

from flowq.cli.render.flow import flow_view
from flowq.cli.render.ink import painted
from flowq.cli.render.screen import Screen
from flowq.model.items import ITEMS
from flowq.model.outcome import Outcome, Wait
from flowq.model.snapshot import FlowSnapshot, ItemsSnapshot
from flowq.store import flow_fields
from flowq.store.store import Store
from tests.store.acting import Actor, snapshots, suspended
from tests.store.test_maps import begun, claims_of, completed

pytestmark = pytest.mark.anyio

GO, LATER = Wait("signal", "go"), Wait("sleep", "", "#0", 3_600_000)
COUNT, BEGUN, ASLEEP, WAITING = 60, 40, (5, 28), (17, 35)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are of ten items, so that a small map has several."""
    monkeypatch.setattr(flow_fields, "_LOOKED_AT_ONCE", 10)


async def waiting(store: Store, actor: Actor) -> FlowSnapshot:
    """A map of which two thirds have begun: two of these sleep, two wait for a signal, and the others have completed."""
    await begun(store, actor, COUNT)
    outcomes: list[Outcome] = []
    for claim in await claims_of(actor, BEGUN):
        number = claim.index % ITEMS
        wait = LATER if number in ASLEEP else GO if number in WAITING else None
        outcomes.append(suspended(claim, wait) if wait is not None else await completed(actor, claim))
    await actor.exchange(*outcomes)
    return await snapshots(store).snapshot("f1")


def items_of(snapshot: FlowSnapshot) -> ItemsSnapshot:
    items = snapshot.stage("a").items
    assert items is not None
    return items


def text_of(snapshot: FlowSnapshot) -> str:
    return painted(flow_view(snapshot, Screen(120)), False)


async def test_what_waits_is_found_on_every_page(store: Store, actor: Actor) -> None:
    snapshot = await waiting(store, actor)
    items = items_of(snapshot)
    assert (items.completed, items.suspended, items.beyond, items.waiting) == (BEGUN - 4, 4, 0, COUNT - BEGUN)
    assert {item.name for item in items.listed} == {f"a[{number}]" for number in (*ASLEEP, *WAITING)}
    assert "flowq signal f1 go VALUE" in text_of(snapshot)


async def test_of_more_that_wait_those_for_signals_are_listed_first_whatever_their_page(
    store: Store, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_fields, "_SUSPENDED_LISTED_MAX", 2)
    items = items_of(await waiting(store, actor))
    assert [item.name for item in items.listed] == [f"a[{number}]" for number in WAITING]


async def test_how_many_may_wait_behind_those_that_are_looked_at_is_said(
    store: Store, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_fields, "LOOKED_AT_MAX", 20)
    snapshot = await waiting(store, actor)
    items = items_of(snapshot)
    assert (items.suspended, items.beyond) == (2, 2)
    assert "… and 2 that may wait: `flowq inspect --all` has them" in text_of(snapshot)
