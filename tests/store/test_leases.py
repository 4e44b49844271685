"""Leases: renewed, overdue in two phases, rescued; crashes are counted for who was alone, and for nobody else."""

from __future__ import annotations

import pytest

from flowq.engine.duties.duties import rescue
from flowq.errors import CorruptState
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wants import Wants
from tests.store.acting import LEASE_MS, Actor, again, in_one_partition, snapshots, states
from tests.store.graphs import diamond, one_stage, wide

pytestmark = pytest.mark.anyio

LONGEST_MS = 3_600_000


async def lease_ran_out(store: Store, tag: str, holder: str, ago_ms: int = 1_000) -> None:
    """Sets the deadline into the past: what waiting would do."""
    await store.connection.command("ZADD", f"{tag}:holders", await Views(store).now() - ago_ms, holder)


async def suspected_for_long(store: Store, tag: str, holder: str) -> None:
    """Sets the moment of suspicion into the past."""
    await store.connection.command("HSET", f"{tag}:h:{holder}", "suspect_at", 0)


async def crash(store: Store, actor: Actor, cause: str = "killed by SIGSEGV") -> int:
    return await rescue(store, actor.id, cause)


def one_in_each_partition(store: Store) -> list[str]:
    found: dict[str, str] = {}
    for number in range(100):
        found.setdefault(store.keys.tag_of(f"f{number}"), f"f{number}")
    return list(found.values())


async def test_a_renewed_lease_ends_later(store: Store, actor: Actor) -> None:
    tag = store.partitions[0]
    before = await store.lease_of(tag, actor.id)
    assert await store.renew(tag, 10 * LEASE_MS, [actor.id]) == []
    after = await store.lease_of(tag, actor.id)
    assert before is not None
    assert after is not None
    assert after - before > 8 * LEASE_MS


async def test_who_was_rescued_can_not_renew(store: Store, actor: Actor) -> None:
    tag = store.partitions[0]
    await crash(store, actor)
    assert await store.renew(tag, LEASE_MS, [actor.id, "nobody"]) == [actor.id, "nobody"]
    assert await store.lease_of(tag, actor.id) is None


async def test_a_holder_that_stays_late_is_given_up(store: Store, actor: Actor) -> None:
    tag = store.partitions[0]
    await lease_ran_out(store, tag, actor.id)
    assert await store.overdue(tag, LONGEST_MS) == []
    assert await store.overdue(tag, LONGEST_MS) == [], "two looks in a row are one look"
    await suspected_for_long(store, tag, actor.id)
    deadline = str(await store.lease_of(tag, actor.id))
    assert await store.overdue(tag, LONGEST_MS) == [(actor.id, deadline)]


async def test_a_holder_that_renewed_between_the_looks_is_not_given_up(store: Store, actor: Actor) -> None:
    """After a jump of the server's clock every lease looks expired until its holder renews."""
    tag = store.partitions[0]
    await lease_ran_out(store, tag, actor.id)
    await store.overdue(tag, LONGEST_MS)
    await store.renew(tag, LEASE_MS, [actor.id])
    assert await store.overdue(tag, LONGEST_MS) == []


async def test_a_rescue_that_a_renewal_overtook_takes_nothing(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    tag = store.keys.tag_of("f1")
    await lease_ran_out(store, tag, actor.id)
    await store.overdue(tag, LONGEST_MS)
    await suspected_for_long(store, tag, actor.id)
    ((holder, deadline),) = await store.overdue(tag, LONGEST_MS)
    await store.renew(tag, LEASE_MS, [actor.id])
    assert await store.rescue(tag, holder, "late", deadline, is_crash=True) == 0
    assert await actor.complete(claim) == ""


async def test_a_deadline_far_in_the_future_is_moved_near(store: Store, actor: Actor) -> None:
    """The server's clock jumped back."""
    tag = store.partitions[0]
    await lease_ran_out(store, tag, actor.id, ago_ms=-10 * LONGEST_MS)
    assert await store.overdue(tag, LONGEST_MS) == []
    deadline = await store.lease_of(tag, actor.id)
    assert deadline is not None
    assert deadline <= await Views(store).now() + LONGEST_MS


async def test_who_was_alone_in_a_crashed_process_is_charged_and_loses_no_attempt(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    assert await crash(store, actor) == 1
    stage = (await snapshots(store).snapshot("f1")).stage("a")
    assert (stage.state, stage.crashes, stage.attempt, stage.runs) == ("ready", 1, 0, 1)
    assert [(run.outcome, run.cause) for run in stage.history] == [("rescued", "killed by SIGSEGV")]


async def test_several_in_a_crashed_process_are_suspects_and_not_charged(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 3)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    await actor.claim(3)
    assert await crash(store, actor) == 3
    heir = await Actor(store).begin()
    assert await heir.claim(5) == [], "suspects are not for everybody"
    suspects = await heir.claim(5, ["default:a!"])
    assert [(claim.crashes, claim.attempt, claim.is_suspect) for claim in suspects] == [(0, 1, True)] * 3


async def test_who_was_alone_in_its_partition_only_is_a_suspect_and_not_charged(store: Store, actor: Actor) -> None:
    ids = one_in_each_partition(store)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    assert len(await actor.claim(9)) == len(ids)
    await crash(store, actor)
    crashes = [(await snapshots(store).snapshot(flow_id)).stage("a").crashes for flow_id in ids]
    assert crashes == ([1] if len(ids) == 1 else [0] * len(ids))
    suspects = await (await Actor(store).begin()).claim(9, ["default:a!"])
    assert [claim.is_suspect for claim in suspects] == [True] * len(ids)


async def test_a_damaged_list_of_what_a_process_ran_charges_nobody(store: Store, actor: Actor) -> None:
    flow_id, *others = one_in_each_partition(store)
    await store.submit([(one, one_stage()) for one in (flow_id, *others)])
    await actor.claim(9)
    await store.connection.command("SET", f"{store.keys.tag_of(flow_id)}:x:{actor.id}", "rubbish", "EX", 60)
    assert await crash(store, actor) == len(others)
    for other in others:
        assert (await snapshots(store).snapshot(other)).stage("a").crashes == 0


async def test_who_claims_a_stage_learns_how_often_it_crashed_and_how(store: Store) -> None:
    await store.submit([("f1", diamond(attempts=5))])
    for crashes in range(4):
        actor = await Actor(store).begin()
        (claim,) = await actor.claim(1, ["default:a", "default:a!"])
        assert (claim.crashes, claim.attempt) == (crashes, 1), "crashes use up no attempt"
        await crash(store, actor)
    assert "SIGSEGV" in await store.last_crash("f1", 0)
    assert (await snapshots(store).snapshot("f1")).stage("a").state == "ready", "to fail it is for who claims it"


async def test_a_process_that_was_stopped_charges_and_suspects_nobody(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    assert await store.rescue(store.keys.tag_of("f1"), actor.id, "its worker has stopped", is_crash=False) == 1
    claim = await (await Actor(store).begin()).claim_one()
    assert (claim.crashes, claim.attempt, claim.is_suspect) == (0, 1, False)


@pytest.mark.parametrize("held", [501, 1_200])
async def test_a_process_with_many_stages_is_rescued_whole_and_the_last_is_not_charged(
    store: Store, actor: Actor, held: int
) -> None:
    await store.submit([("f1", wide(held))])
    tag = store.keys.tag_of("f1")
    while await actor.exchange_claims(tag, 400):
        pass
    assert await crash(store, actor) == held
    snapshot = await snapshots(store).snapshot("f1")
    assert {(stage.state, stage.crashes) for stage in snapshot.graph if stage.name != "top"} == {("ready", 0)}
    assert await store.connection.command("EXISTS", f"{tag}:x:{actor.id}", f"{tag}:h:{actor.id}") == 0


async def test_a_rescue_that_has_begun_can_not_be_undone_by_a_renewal(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(600))])
    tag = store.keys.tag_of("f1")
    while await actor.exchange_claims(tag, 400):
        pass
    # One call of the rescuer, which died after it.
    await store.connection.run("rescue", tag, actor.id, "", "gone", "suspects")
    assert await store.renew(tag, LEASE_MS, [actor.id]) == [actor.id]
    assert await actor.exchange(tag=tag, capacity=5) is None
    await store.overdue(tag, LONGEST_MS)
    await suspected_for_long(store, tag, actor.id)
    ((holder, deadline),) = await store.overdue(tag, LONGEST_MS)
    assert await store.rescue(tag, holder, "gone", deadline, is_crash=True) == 400


async def test_rescuing_twice_takes_nothing_twice(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    assert await crash(store, actor) == 1
    assert await crash(store, actor) == 0
    assert len(await (await Actor(store).begin()).claim(5, ["default:a", "default:a!"])) == 1


async def test_a_rescued_stage_of_a_flow_that_was_deleted_is_forgotten(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    await store.connection.command("DEL", store.keys.flow("f1"))
    await crash(store, actor)
    assert await store.lease_of(store.keys.tag_of("f1"), actor.id) is None


async def test_a_plan_that_is_gone_is_said_by_name(store: Store) -> None:
    with pytest.raises(CorruptState, match="plan"):
        await store.plan("f1", "no-such-digest00")


async def test_workers_are_seen_with_what_they_run(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 2)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    await actor.claim(2)
    (worker,) = await Views(store).workers()
    assert (worker.id, worker.running, worker.queues) == (actor.id, 2, ("default",))
    for tag in store.partitions:
        await lease_ran_out(store, tag, actor.id)
    assert await Views(store).workers() == []
    assert (await states(store, ids[0])).startswith("running")


async def test_a_suspect_is_claimed_alone_and_only_where_there_is_nothing_else(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 5)
    suspects, others = ids[:3], ids[3:]
    await store.submit([(flow_id, one_stage()) for flow_id in suspects])
    await actor.claim(3)
    await crash(store, actor)
    await store.submit([(flow_id, one_stage()) for flow_id in others])
    heir = await Actor(store).begin()
    wants = [Wants(-1, ("default:a",), ("default:a!",))]

    async def claimed(seq: int) -> list[str]:
        answer = await store.exchange(store.partitions[0], heir.id, 0, seq, f"n{seq}", (), (), wants, 10, parks=False)
        assert answer is not None
        return [claim.flow_id for claim in answer.claims]

    assert sorted(await claimed(1)) == sorted(others)
    assert [len(await claimed(seq)) for seq in (2, 3, 4, 5)] == [1, 1, 1, 0]


async def test_an_old_entry_of_a_suspect_gets_it_neither_claimed_beside_others_nor_waited_for(store: Store, actor: Actor) -> None:
    suspect, other = in_one_partition(store, 2)
    spec = one_stage()
    await store.submit([(suspect, spec)])
    await store.cancel(suspect, "", 1)
    snapshot = await snapshots(store).snapshot(suspect)
    assert await store.retry(suspect, snapshot.seq, again(snapshot, spec.plan)), "its stage now waits twice"
    assert len(await actor.exchange_claims(store.partitions[0], 1)) == 1
    await crash(store, actor)
    assert await Views(store).waiting(["default:a"]) == []
    await store.submit([(other, one_stage())])
    heir = await Actor(store).begin()
    assert [claim.flow_id for claim in await heir.claim(5, ["default:a"])] == [other]
    assert [claim.flow_id for claim in await heir.claim(5, ["default:a!"])] == [suspect]


async def test_a_lease_that_ran_out_counts_as_a_crash_from_the_second_time_on(store: Store) -> None:
    await store.submit([("f1", one_stage())])
    tag = store.keys.tag_of("f1")
    counted: list[int] = []
    for _ in range(3):
        actor = await Actor(store).begin()
        (claim,) = await actor.claim(1, ["default:a", "default:a!"])
        counted.append(claim.crashes)
        deadline = str(await store.lease_of(tag, actor.id))
        assert await rescue(store, actor.id, "its lease ran out", deadline, [tag]) == 1
    assert counted == [0, 0, 1], "its host may have been taken away"
