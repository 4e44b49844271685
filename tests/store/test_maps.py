"""The scripts behind maps: what is written when, who may, and what is left when somebody dies between two steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.duties import Closer
from flowq.model.items import ITEMS, LIST, Mapped, item_index
from flowq.model.outcome import Claim, CompleteItem, Expand, Fail, opaque
from flowq.model.plan import Binding, Plan, StagePlan
from flowq.model.restart import restart
from flowq.model.spec import FlowSpec
from flowq.store.keys import ASIDE, DUE
from flowq.store.maps import group_of, item_results, put_items
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import again_of
from tests.store.acting import Actor, failed, released, retried, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

pack = msgspec.msgpack.encode
NOTHING = opaque(b"")


def mapped_flow(need: int = 0, at_once: int = 0) -> FlowSpec[object]:
    """A map `a` and `b`, which takes its list."""
    stages = (
        StagePlan("a", "a", parents=(1,), mapping=Mapped("x", at_once, need)),
        StagePlan("b", "b", bindings=(Binding(("xs",), 0),), children=(0,)),
    )
    return FlowSpec(Plan("mapped", stages, (Binding((), 1),)), {}, b"\x80")


async def expand(actor: Actor, claim: Claim, count: int, need: int = 0, at_once: int = 0) -> str:
    """Writes the items of a claimed map and reports that; gives the verdict."""
    for start in range(0, count, 1_000):
        page = [pack({"x": number}) for number in range(start, min(start + 1_000, count))]
        assert await put_items(actor.store, claim, start, page)
    return await actor.report(Expand(*claim.run, count, need or count, at_once))


async def begun(store: Store, actor: Actor, count: int, need: int = 0, at_once: int = 0) -> Claim:
    """A flow whose map has so many items."""
    await store.submit([("f1", mapped_flow(need, at_once))])
    claim = await actor.claim_one_of("f1")
    assert await expand(actor, claim, count, need, at_once) == ""
    return claim


async def completed(actor: Actor, claim: Claim, result: object = None) -> CompleteItem:
    """The outcome of an item that returned."""
    plan = await actor.store.plan(claim.flow_id, claim.plan)
    await plan.load(0)
    return CompleteItem(*claim.run, opaque(pack(result)), NOTHING, plan.releases(0), *plan.bearers(0))


async def claims_of(actor: Actor, most: int) -> list[Claim]:
    return await actor.exchange_claims(actor.store.keys.tag_of("f1"), most)


async def counts(store: Store) -> tuple[int, int, int, int]:
    """Of the map: done, failed, running, waiting."""
    items = (await snapshots(store).snapshot("f1")).stage("a").items
    assert items is not None
    return items.completed, items.failed, items.running, items.waiting


async def states(store: Store, names: Sequence[str] = ("a", "b")) -> list[str]:
    snapshot = await snapshots(store).snapshot("f1")
    return [snapshot.stage(name).state for name in names]


async def test_an_item_is_claimed_with_its_element_and_the_opening_of_its_map(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3)
    claims = await claims_of(actor, 5)
    assert [(claim.index, claim.literals, claim.attempt) for claim in claims] == [
        (item_index(0, number), pack({"x": number}), 1) for number in range(3)
    ]
    group = await group_of(store, "f1", 0)
    assert group is not None
    assert {claim.opened_at for claim in claims} == {group.opened_at}
    assert await counts(store) == (0, 0, 3, 0)


async def test_the_last_item_completes_the_map_and_releases_its_parents_in_one_step(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3)
    claims = await claims_of(actor, 5)
    answer = await actor.exchange(*[await completed(actor, claim, claim.index) for claim in claims[1:]])
    assert answer is not None
    assert await states(store) == ["suspended", "blocked"]
    answer = await actor.exchange(await completed(actor, claims[0], "first"), capacity=5)
    assert answer is not None
    (parent,) = answer.claims
    assert (parent.index, parent.results) == (1, {0: LIST})
    assert [msgspec.msgpack.decode(data) for data in await item_results(store, "f1", 0)] == ["first", ITEMS + 1, ITEMS + 2]


async def test_who_no_longer_holds_the_map_can_neither_write_items_nor_expand(store: Store, actor: Actor) -> None:
    await store.submit([("f1", mapped_flow())])
    zombie = await actor.claim_one_of("f1")
    assert await put_items(store, zombie, 0, [pack({"x": "old"})] * 2)
    await store.rescue(store.keys.tag_of("f1"), actor.id, "gone", is_crash=False)
    heir = await Actor(store).begin()
    again = await heir.claim_one_of("f1")
    assert await expand(heir, again, 3) == ""
    assert not await put_items(store, zombie, 0, [pack({"x": "old"})] * 2)
    assert await heir.report(Expand(*zombie.run, 7, 7, 0)) == "stale"
    assert [claim.literals for claim in await claims_of(heir, 9)] == [pack({"x": number}) for number in range(3)]


async def test_a_lost_reply_to_an_expansion_or_to_an_items_end_is_no_error(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor, 2)
    assert await actor.report(Expand(*claim.run, 2, 2, 0)) == "replayed"
    one, other = await claims_of(actor, 5)
    assert await actor.report(await completed(actor, one)) == ""
    assert await actor.report(await completed(actor, one)) == "replayed"
    assert await counts(store) == (1, 0, 1, 0)
    assert await actor.report(await completed(actor, other)) == ""
    assert await actor.report(await completed(actor, other)) == "replayed"
    assert await actor.report(Expand(*claim.run, 2, 2, 0)) == "replayed"
    assert (await snapshots(store).snapshot("f1")).state == "running"


async def test_the_same_exchange_again_gets_the_same_items(store: Store, actor: Actor) -> None:
    await begun(store, actor, 4)
    tag = store.keys.tag_of("f1")
    first = await actor.exchange(tag=tag, capacity=2)
    again = await actor.exchange(tag=tag, capacity=2, seq=actor.seq, nonce=actor.nonce)
    assert first is not None
    assert again is not None
    assert sorted(again.claims, key=lambda claim: claim.index) == first.claims
    assert await counts(store) == (0, 0, 2, 2)


async def test_items_of_a_dead_holder_are_taken_back_and_counted_as_waiting(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3)
    await claims_of(actor, 2)
    await store.rescue(store.keys.tag_of("f1"), actor.id, "gone", is_crash=True)
    assert await counts(store) == (0, 0, 0, 3)
    heir = await Actor(store, routes=("a", "a!", "b")).begin()
    claims = await claims_of(heir, 9)
    assert sorted((claim.index - ITEMS, claim.attempt, claim.is_suspect) for claim in claims) == [
        (0, 1, True), (1, 1, True), (2, 1, False),
    ]  # fmt: skip


async def test_an_item_that_is_retried_or_given_back_keeps_its_place_under_a_bound(store: Store, actor: Actor) -> None:
    await begun(store, actor, 4, at_once=2)
    one, other = await claims_of(actor, 9)
    await actor.report(retried(one, 60_000))
    assert await counts(store) == (0, 0, 1, 3)
    assert await claims_of(actor, 9) == []
    await actor.report(released(other))
    (again,) = await claims_of(actor, 9)
    assert again.index == other.index
    await actor.report(await completed(actor, again))
    assert [claim.index - ITEMS for claim in await claims_of(actor, 9)] == [2]


async def test_what_ends_after_its_map_is_late_and_changes_nothing(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3, need=1)
    claims = await claims_of(actor, 9)
    answer = await actor.exchange(*[await completed(actor, claim, number) for number, claim in enumerate(claims)])
    assert answer is not None
    assert [verdict.word for verdict in answer.verdicts] == ["late", "late"]
    assert answer.closing == ["*0:f1"]
    assert [msgspec.msgpack.decode(data) for data in await item_results(store, "f1", 0)] == [0]
    assert await states(store) == ["completed", "ready"]


async def test_a_duty_stops_what_runs_of_a_map_that_has_ended(store: Store, actor: Actor) -> None:
    await begun(store, actor, 1_300, need=1)
    runner = await Actor(store).begin()
    held = await claims_of(runner, 700)
    (enough,) = await claims_of(actor, 1)
    await actor.report(await completed(actor, enough))
    tag = store.keys.tag_of("f1")
    await Closer(store, Views(store)).run_once()
    assert await Views(store).closing() == []
    told = await runner.exchange(tag=tag)
    assert told is not None
    assert sorted(told.cancelled) == [claim.run for claim in held]
    assert await store.connection.command("SCARD", f"{tag}:x:{runner.id}") == 0


async def test_a_cancellation_walks_the_items_in_pieces(store: Store, actor: Actor) -> None:
    await begun(store, actor, 1_200)
    held = await claims_of(actor, 900)
    tag = store.keys.tag_of("f1")
    retention = pack(store.retention)
    assert await store.connection.run("cancel", tag, "f1", "why", "n", 2, retention) == [b"closing", []]
    assert int(await store.connection.command("ZSCORE", f"{tag}:closing", "f1")) == ITEMS + 499
    assert await store.finish_closing("f1", 2) == "cancelled"
    told = await actor.exchange(tag=tag)
    assert told is not None
    assert len(told.cancelled) == len(held)
    assert await states(store) == ["cancelled", "cancelled"]
    assert await actor.report(await completed(actor, held[0])) == "late"


async def test_two_who_finish_one_cancellation_leave_no_item_behind(store: Store, actor: Actor) -> None:
    await begun(store, actor, 1_200)
    await claims_of(actor, 900)
    tag = store.keys.tag_of("f1")
    await store.connection.run("cancel", tag, "f1", "why", "n", 2, pack(store.retention))
    await asyncio.gather(*(finish_closing(store, "f1") for _ in range(2)))
    assert await Views(store).closing() == []
    assert await store.connection.command("SCARD", f"{tag}:x:{actor.id}") == 0


async def test_a_map_whose_last_item_completes_can_still_fail(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2)
    one, other = await claims_of(actor, 9)
    await actor.report(failed(one, "Bad"))
    assert await states(store) == ["suspended", "blocked"]
    await actor.report(await completed(actor, other))
    snapshot = await snapshots(store).snapshot("f1")
    failure = snapshot.stage("a").failure
    assert failure is not None
    assert (snapshot.state, snapshot.root_cause, failure.error_type) == ("failed", "a[0]", "Bad")


async def test_a_flow_that_was_cancelled_while_items_waited_for_another_try_goes_on(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3)
    one, *_ = await claims_of(actor, 3)
    await actor.report(retried(one, 3_600_000))
    assert await store.cancel("f1", "", 2) == "cancelled"
    snapshot = await snapshots(store).snapshot("f1")
    again = again_of(mapped_flow().plan, restart(mapped_flow().plan, [stage.state for stage in snapshot.graph], [], {0: []}))
    assert await store.retry("f1", snapshot.seq, again)
    claims = await claims_of(actor, 9)
    assert [claim.index - ITEMS for claim in claims] == [0, 1, 2]
    assert [claim.token.fence for claim in claims] == [2, 2, 2]
    answer = await actor.exchange(*[await completed(actor, claim) for claim in claims])
    assert answer is not None
    assert not answer.verdicts
    assert await states(store) == ["completed", "ready"]


async def test_a_stray_entry_of_an_earlier_opening_hands_out_nothing(store: Store, actor: Actor) -> None:
    await begun(store, actor, 9, at_once=2)
    tag = store.keys.tag_of("f1")
    await store.connection.command("RPUSH", f"{tag}:q:default:a:0", f"{ITEMS}-{ITEMS + 8}@12345:f1")
    assert [claim.index - ITEMS for claim in await claims_of(actor, 9)] == [0, 1]


@pytest.mark.parametrize("rubbish", [b"rubbish", pack(["a"] * 9), pack([1] * 9), pack({})])
async def test_a_damaged_group_stops_no_partition(store: Store, actor: Actor, rubbish: bytes) -> None:
    await begun(store, actor, 3)
    (claim, *_) = await claims_of(actor, 1)
    await store.connection.command("HSET", store.keys.flow("f1"), "G0", rubbish)
    assert await actor.report(await completed(actor, claim)) == "late"
    assert await claims_of(actor, 5) == []
    assert await store.cancel("f1", "", 2) == "cancelled"


async def test_no_field_grows_with_the_number_of_items(store: Store, actor: Actor) -> None:
    await begun(store, actor, 3_000)
    claims: list[Claim] = []
    while page := await claims_of(actor, 500):
        claims += page
    assert len(claims) == 3_000
    fails: list[Fail] = [failed(claim) for claim in claims[:200]]
    await actor.exchange(*fails)
    sizes = await store.connection.commands(
        *(("HSTRLEN", store.keys.flow("f1"), name) for name in ("G0", "m", "0", "r0", "e0", "h0"))
    )
    assert max(sizes) < 100


async def test_a_bounded_map_that_goes_on_is_not_lost_when_a_call_only_passes_over_completed_items(
    store: Store, actor: Actor
) -> None:
    await begun(store, actor, 1_300, at_once=2)
    while page := await claims_of(actor, 50):
        await actor.exchange(
            *[failed(claim) if claim.index == ITEMS + 1_299 else await completed(actor, claim) for claim in page]
        )
    snapshot = await snapshots(store).snapshot("f1")
    again = again_of(mapped_flow().plan, restart(mapped_flow().plan, [stage.state for stage in snapshot.graph], [], {0: []}))
    assert await store.retry("f1", snapshot.seq, again)
    calls = [await claims_of(actor, 50) for _ in range(4)]
    assert [[claim.index - ITEMS for claim in claims] for claims in calls] == [[], [], [1_299], []]


async def test_stopping_what_runs_of_a_map_may_be_said_again_by_anybody(store: Store, actor: Actor) -> None:
    await begun(store, actor, 1_300, need=1)
    await claims_of(await Actor(store).begin(), 700)
    (enough,) = await claims_of(actor, 1)
    await actor.report(await completed(actor, enough))
    tag = store.keys.tag_of("f1")
    assert await store.connection.run("disband", tag, "f1", 0) == [b"closing"]
    assert int(await store.connection.command("ZSCORE", f"{tag}:closing", "*0:f1")) == 500
    await asyncio.gather(*(finish_closing(store, "*0:f1") for _ in range(3)))
    assert await Views(store).closing() == []
    seq = (await snapshots(store).snapshot("f1")).seq
    await finish_closing(store, "*0:f1")
    assert (await snapshots(store).snapshot("f1")).seq == seq


async def test_items_go_first_where_flows_that_have_begun_are_finished_first(store: Store, actor: Actor) -> None:
    plan = msgspec.structs.replace(mapped_flow().plan, finish_first=True)
    await store.submit([("f1", FlowSpec(plan, {}, b"\x80"))])
    claim = await actor.claim_one_of("f1")
    stored = await store.plan(claim.flow_id, claim.plan)
    await stored.load(0)
    assert await put_items(store, claim, 0, [pack({"x": 1})])
    assert await actor.report(Expand(*claim.run, 1, 1, 0, stored.priority(0))) == ""
    assert await store.connection.command("ZRANGE", f"{store.keys.tag_of('f1')}:z:default:a", 0, 0) == [b"2"]
    again = again_of(plan, restart(plan, ["failed", "cancelled"], [], {0: []}))
    assert [one.priority for one in again.maps] == [2]


async def test_items_that_were_put_aside_go_with_the_paused_flow_whose_map_has_enough(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage(mapping=Mapped("x", need=1)))])
    assert await expand(actor, await actor.claim_one_of("f1"), 3, need=1) == ""
    (claim,) = await claims_of(actor, 1)
    aside, due = store.keys.tag_of("f1") + ASIDE + "flow:f1", store.keys.tag_of("f1") + DUE
    await Pauses(store).pause("flow", "f1", "")
    assert await claims_of(actor, 5) == []
    assert await store.connection.command("LLEN", aside) == 1
    assert await actor.report(await completed(actor, claim)) == ""
    assert (await snapshots(store).snapshot("f1")).state == "completed"
    assert await store.connection.command("EXISTS", aside, due) == 0
