"""Adding flows: all or nothing, once only, and nothing written when it is refused."""

from __future__ import annotations

import asyncio

import pytest

from flowq.errors import FlowConflict, ServerIsFull
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.views import Views
from tests.servers import running_valkey
from tests.store.acting import Actor, everything, states
from tests.store.graphs import chain, diamond, one_stage, wide

pytestmark = pytest.mark.anyio


async def test_an_added_flow_is_ready_and_its_parents_are_blocked(store: Store) -> None:
    (added,) = await store.submit([("f1", diamond())])
    assert (added.flow_id, added.is_new) == ("f1", True)
    assert await states(store, "f1") == "ready: ready blocked blocked blocked"


async def test_adding_a_flow_again_gives_the_one_that_is_there(store: Store) -> None:
    await store.submit([("f1", diamond(inputs=1))])
    before = await everything(store)
    (again,) = await store.submit([("f1", diamond(inputs=1))])
    assert not again.is_new
    assert await everything(store) == before


async def test_a_taken_id_is_refused_and_the_rest_of_the_batch_added(store: Store) -> None:
    await store.submit([("f1", diamond(inputs=1))])
    with pytest.raises(FlowConflict, match="f1"):
        await store.submit([("f0", one_stage()), ("f1", diamond(inputs=2)), ("f2", one_stage())])
    assert await states(store, "f0") == await states(store, "f2") == "ready: ready"
    assert await states(store, "f1") == "ready: ready blocked blocked blocked"


async def test_all_ids_that_are_taken_are_told_in_their_order(store: Store) -> None:
    ids = [f"f{number}" for number in range(9)]
    await store.submit([(flow_id, one_stage(inputs=1)) for flow_id in ids if flow_id != "f4"])
    with pytest.raises(FlowConflict, match=r"'f0' is taken .* \(7 more are taken: 'f1', 'f2', 'f3', 'f5', 'f6', …\)") as refused:
        await store.submit([(flow_id, one_stage(inputs=2)) for flow_id in [*ids, "f1"]])
    assert refused.value.flow_id == "f0"
    assert refused.value.flow_ids == tuple(flow_id for flow_id in ids if flow_id != "f4")


async def test_an_id_twice_in_a_batch_is_added_once(store: Store, actor: Actor) -> None:
    added = await store.submit([("f1", one_stage()), ("f1", one_stage())])
    assert [one.flow_id for one in added] == ["f1", "f1"]
    assert len(await actor.claim(10)) == 1
    with pytest.raises(FlowConflict):
        await store.submit([("f2", one_stage(inputs=1)), ("f2", one_stage(inputs=2))])
    assert len(await actor.claim(10)) == 1


async def test_a_hundred_submits_of_one_id_at_once_make_one_flow(store: Store, actor: Actor) -> None:
    answers = await asyncio.gather(*(store.submit([("f1", one_stage())]) for _ in range(100)))
    assert sum(added.is_new for (added,) in answers) == 1
    assert len(await actor.claim(10)) == 1


async def test_a_large_flow_is_staged_and_complete(store: Store, actor: Actor) -> None:
    await store.submit([("large", wide(2_000, literals=True)), ("small", one_stage())])
    claims = await actor.claim(3, ["default:leaf"])
    assert [claim.literals for claim in claims] == [b"\x81\xa1n" + bytes([number]) for number in range(3)]
    assert await store.connection.command("TTL", store.keys.flow("large")) == -1
    keys = await everything(store)
    assert not [key for key in keys if b":s:" in key]


async def test_a_large_flow_twice_in_a_batch_leaves_only_what_expires(store: Store, actor: Actor) -> None:
    await store.submit([("large", wide(600, literals=True)), ("large", wide(600, literals=True))])
    assert len(await actor.claim(10)) == 10


async def test_a_killed_submission_leaves_nothing_that_can_be_seen(store: Store) -> None:
    """The staging key of a producer that died before its commit."""
    await store._submissions._submission(store.keys.tag_of("large"), "large", wide(600, literals=True))
    assert [page for pages in Views(store).indexes() async for page in pages] == []
    assert all([await store.connection.command("TTL", key) > 0 for key in await everything(store) if b":s:" in key])


async def test_a_vanished_staging_key_is_written_again(store: Store, actor: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time to live ran out while the producer was stopped."""
    staged, lost = store._submissions._submission, []

    async def lose_the_first(tag: str, flow_id: str, spec: object) -> object:
        submission = await staged(tag, flow_id, spec)  # type: ignore[arg-type]
        if not lost:
            lost.append(await store.connection.command("DEL", submission.staging))
        return submission

    monkeypatch.setattr(store._submissions, "_submission", lose_the_first)
    (added,) = await store.submit([("large", wide(600, literals=True))])
    assert added.is_new
    assert lost == [1]
    assert len(await actor.claim(10)) == 10


async def test_a_plan_that_is_only_half_written_is_not_trusted(store: Store, actor: Actor) -> None:
    """A producer died between the first and the last block of a plan that others use too."""
    spec = chain(600)
    puts = 0

    async def die_after_two(*args: object) -> None:
        nonlocal puts
        puts += 1
        if puts > 2:
            raise ConnectionAbortedError
        await whole(*args)  # type: ignore[arg-type]

    whole = store._submissions._put_part
    store._submissions._put_part = die_after_two  # type: ignore[method-assign]
    with pytest.raises(ConnectionAbortedError):
        await store.submit([("f1", spec)])
    store._submissions._put_part = whole  # type: ignore[method-assign]
    await store.submit([("f1", spec)])
    assert await actor.finish() == 600


async def test_defining_a_plan_again_does_not_make_it_expire(store: Store) -> None:
    """Two producers found the plan missing; the slower one then lost the race for the flow's id."""
    spec = one_stage()
    await store.submit([("f1", spec)])
    tag = store.keys.tag_of("f1")
    await store._submissions._put_plan(tag, spec.plan.digest, spec.plan)
    assert await store.connection.command("TTL", f"{tag}:p:{spec.plan.digest}") == -1


async def test_a_plan_that_no_flow_uses_expires(store: Store) -> None:
    spec = chain(600)
    await store._submissions._put_plan(store.partitions[0], spec.plan.digest, spec.plan)
    assert await store.connection.command("TTL", f"{store.partitions[0]}:p:{spec.plan.digest}") > 0


@pytest.mark.parametrize("spec", [one_stage(), wide(600, literals=True)], ids=["small", "staged"])
async def test_a_full_server_refuses_a_flow_before_anything_can_be_seen_and_goes_on_running(
    spec: object, anyio_backend: str
) -> None:
    with running_valkey() as url:
        store = Store(Connection(url), "full")
        await store.open()
        actor = await Actor(store).begin()
        await store.submit([("f1", diamond())])
        claim = await actor.claim_one()
        await store.connection.command("CONFIG", "SET", "maxmemory", "1mb")
        before = await everything(store)
        with pytest.raises(ServerIsFull):
            await store.submit([("f2", spec)])  # type: ignore[list-item]
        assert await everything(store) == before
        # What runs can end, and what waits for it can run; a new process may join and do it.
        assert await actor.complete(claim) == ""
        await Store(Connection(url), "full").open()
        newcomer = await Actor(store).begin()
        assert await newcomer.finish() == 3
        assert await states(store, "f1") == "completed: completed completed completed completed"
        await store.close()
