"""A worker's side of the store, played by hand: claims, and reports what it is told to."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flowq.model.exchanged import Exchanged
from flowq.model.failure import Failure
from flowq.model.outcome import Claim, Complete, Fail, Outcome, Progress, Release, Retry, Skip, Suspend, Wait, opaque
from flowq.model.plan import Plan
from flowq.model.restart import restart
from flowq.model.snapshot import FlowSnapshot
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wants import Wants
from flowq.store.wire import Again, HolderInfo, again_of
from tests.scanned import keys_like

LEASE_MS = 15_000
_pack = msgspec.msgpack.encode
_NOTHING = opaque(b"")


class Actor:
    """One holder that talks to all partitions; every call is one exchange with each.

    Attributes:
        id: its holder id.
        nonce: that of its last call, for forgeries and repetitions.
    """

    def __init__(self, store: Store, holder: str = "", routes: Iterable[str] = ("a", "b", "c", "d", "s", "leaf", "top")) -> None:
        self.store = store
        self.id = holder or f"actor.{secrets.token_hex(3)}"
        self.nonce = ""
        self.routes = tuple(f"default:{name}" for name in routes)
        self.seq = 0

    async def begin(self, lease_ms: int = LEASE_MS) -> Actor:
        """Registers in all partitions."""
        info = HolderInfo(self.id, ("default",), tuple(route.split(":")[1] for route in self.routes), self.routes, 10)
        for tag in self.store.partitions:
            await self.store.register(tag, self.id, lease_ms, info)
        return self

    async def exchange(
        self,
        *outcomes: Outcome,
        tag: str | None = None,
        capacity: int = 0,
        progress: Sequence[Progress] = (),
        routes: Sequence[str] | None = None,
        line: int = 0,
        seq: int | None = None,
        nonce: str | None = None,
        parks: bool = False,
        permits: Mapping[str, int] = {},
    ) -> Exchanged | None:
        """One exchange with one partition, by default that of the first outcome, or the only one."""
        if tag is None:
            tag = self.store.keys.tag_of(outcomes[0].flow_id) if outcomes else self.store.partitions[0]
        self.seq = self.seq + 1 if seq is None else seq
        self.nonce = secrets.token_urlsafe(8) if nonce is None else nonce
        wants = [Wants(-1, self.routes if routes is None else tuple(routes))] if capacity else []
        return await self.store.exchange(
            tag, self.id, line, self.seq, self.nonce, outcomes, progress, wants, capacity, parks, permits=permits
        )

    async def claim(self, most: int = 1, routes: Sequence[str] | None = None) -> list[Claim]:
        """Claims up to `most` stages, asking the partitions in turn."""
        claims: list[Claim] = []
        for tag in self.store.partitions:
            if most > len(claims):
                answer = await self.exchange(tag=tag, capacity=most - len(claims), routes=routes)
                assert answer is not None
                claims += answer.claims
        return claims

    async def claim_one(self, routes: Sequence[str] | None = None) -> Claim:
        """The one stage that can be claimed now."""
        (claim,) = await self.claim(2, routes)
        return claim

    async def claim_one_of(self, flow_id: str) -> Claim:
        """A stage from the partition of this flow."""
        answer = await self.exchange(tag=self.store.keys.tag_of(flow_id), capacity=1)
        assert answer is not None
        (claim,) = answer.claims
        return claim

    async def exchange_claims(self, tag: str, capacity: int) -> list[Claim]:
        """What one exchange with this partition claims."""
        answer = await self.exchange(tag=tag, capacity=capacity)
        assert answer is not None
        return answer.claims

    async def complete(self, claim: Claim, result: object = None) -> str:
        """Completes a stage; gives the verdict, "" when it was accepted."""
        return await self.report(await self.completed(claim, result))

    async def completed(self, claim: Claim, result: object = None) -> Complete:
        """The outcome of a stage that returned."""
        plan = await self.store.plan(claim.flow_id, claim.plan)
        await plan.load(claim.index)
        return Complete(*claim.run, opaque(_pack(result)), _NOTHING, plan.releases(claim.index))

    async def skipped(self, claim: Claim) -> Skip:
        """The outcome of a stage whose condition does not hold."""
        plan = await self.store.plan(claim.flow_id, claim.plan)
        await plan.load(claim.index)
        return Skip(*claim.run, opaque(_pack(None)), _NOTHING, plan.releases(claim.index))

    async def report(self, outcome: Outcome) -> str:
        """Reports one outcome; gives the verdict, "" when it was accepted."""
        answer = await self.exchange(outcome)
        assert answer is not None
        return answer.verdicts[0].word if answer.verdicts else ""

    async def finish(self, most: int = 10_000) -> int:
        """Runs what there is until there is nothing more; returns how many stages that were."""
        done = 0
        while done < most and (claims := await self.claim(50)):
            by_tag: dict[str, list[Outcome]] = {}
            for claim in claims:
                by_tag.setdefault(self.store.keys.tag_of(claim.flow_id), []).append(await self.completed(claim, claim.index))
            for tag, outcomes in by_tag.items():
                answer = await self.exchange(*outcomes, tag=tag)
                assert answer is not None
                assert not answer.verdicts
            done += len(claims)
        return done


def failed(claim: Claim, error: str = "Boom") -> Fail:
    """The outcome of a stage that failed for good."""
    run = (claim.flow_id, claim.index, claim.token.fence, claim.token.nonce)
    return Fail(*run, opaque(_pack(Failure(error, "it broke"))), f"{error}: it broke")


def retried(claim: Claim, delay_ms: int = 0, *, keeps_attempt: bool = False) -> Retry:
    """The outcome of an attempt that failed and will be followed by another."""
    run = (claim.flow_id, claim.index, claim.token.fence, claim.token.nonce)
    return Retry(*run, opaque(_pack(Failure("Boom", "it broke"))), "Boom: it broke", delay_ms, keeps_attempt)


def released(claim: Claim) -> Release:
    """The outcome of a stage that is given back."""
    return Release(claim.flow_id, claim.index, claim.token.fence, claim.token.nonce)


def suspended(claim: Claim, *waits: Wait, seen: tuple[str, ...] = ()) -> Suspend:
    """The outcome of a stage that waits."""
    return Suspend(*claim.run, waits, seen)


def snapshots(store: Store) -> Snapshots:
    """For looking at flows."""
    return Snapshots(store, Views(store))


async def states(store: Store, flow_id: str) -> str:
    """The flow's state and its stages', such as `running: completed ready blocked`."""
    snapshot = await snapshots(store).snapshot(flow_id)
    return f"{snapshot.state}: {' '.join(stage.state for stage in snapshot.graph)}"


async def everything(store: Store) -> dict[bytes, bytes]:
    """The serialised value of every key of the namespace, to see whether anything changed; times to live left out."""
    keys = await keys_like(store, f"{{{store.keys.namespace}[:}}]*")
    values = await store.connection.commands(*(("DUMP", key) for key in keys))
    return dict(zip(keys, values, strict=True))


def in_one_partition(store: Store, count: int) -> list[str]:
    """Ids that live in the first partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if store.keys.tag_of(f"p{number}") == store.partitions[0]:
            found.append(f"p{number}")
        number += 1
    return found


def two_in_one_partition(store: Store) -> tuple[str, str]:
    """Two such ids."""
    one, other = in_one_partition(store, 2)
    return one, other


def again(snapshot: FlowSnapshot, plan: Plan, names: Sequence[str] = ()) -> Again:
    """What a retry by hand does: of these stages, or of all that failed or were cancelled."""
    chosen = [
        index for index, stage in enumerate(snapshot.graph) if stage.name in names or stage.state in ("failed", "cancelled")
    ]
    return again_of(plan, restart(plan, [stage.state for stage in snapshot.graph], chosen))
