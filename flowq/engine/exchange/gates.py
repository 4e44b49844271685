"""Gates: queues and tenants of which only so many stages run at once, on all workers together.

A worker gets permits before it claims, uses those that its claims need and returns the others. When a stage has ended its
permit serves the next claim here; only what that does not use goes back, or after a while what others are hungry for. What a
dead process held expires with its lease.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from flowq.engine.capacity.taken import Taken
from flowq.engine.run.limiter import Limiter
from flowq.engine.run.stage_run import RunKey
from flowq.model.limit import OF_QUEUE, OF_TENANT, LimitUse
from flowq.model.outcome import Claim, Exchanged
from flowq.store.limits import Limits
from flowq.store.store import Store
from flowq.store.wants import Wants, most_of, queues_of, within

# How soon a limit that is set or removed is seen, and how soon somebody who got no permit asks again.
REFRESH_SECONDS = 2.0
DENIED_SECONDS = 0.1
# For how long who has got permits uses them again without asking whether others want some.
TURN_SECONDS = 1.0
# Tenants for which permits are asked before one claim.
_TENANTS_MAX = 16

Claiming = Callable[[Sequence[Wants], int, Mapping[str, int]], Awaitable[Exchanged | None]]


class Opened(msgspec.Struct):
    """What one claim may take.

    Attributes:
        wants: of which queues, and how much.
        permits: limit → the permits that were got for it.
        is_denied: whether there were fewer than could be used.
        is_whole: whether it asks for all that is served here.
    """

    wants: Sequence[Wants]
    permits: dict[str, list[str]] = {}
    is_denied: bool = False
    is_whole: bool = True

    @property
    def of_tenants(self) -> dict[str, int]:
        """Tenant → how many permits."""
        return {
            name.removeprefix(OF_TENANT): len(permits) for name, permits in self.permits.items() if name.startswith(OF_TENANT)
        }


class Gates:
    """The gates of one holder.

    Args:
        store: the store.
        limiter: names permits and knows their lease.
        holder: whose permits they are.
    """

    def __init__(self, store: Store, limiter: Limiter, holder: str) -> None:
        self._limits = Limits(store)
        self._limiter = limiter
        self._holder = holder
        self._names: frozenset[str] = frozenset()
        self._spare: dict[str, list[str]] = {}
        self._used: dict[RunKey, tuple[str, list[tuple[str, str]]]] = {}
        # Partition and limit → how many permits are in use or offered; limit → until when they are used again without asking.
        self._held = Counter[tuple[str, str]]()
        self._turn_ends: dict[str, float] = {}
        # Partition, and whether the call asked for all that is served → tenants of which more waited than there were permits for.
        self._wanted: dict[tuple[str, bool], list[str]] = {}
        # Partition → those met since it last paused.
        self._met: dict[str, set[str]] = {}

    @property
    def are_there(self) -> bool:
        """Whether there is any gate; if not, nothing of this costs anything."""
        return bool(self._names or self._spare or self._wanted or self._used)

    async def refresh(self) -> None:
        """Learns which queues have limits."""
        self._names = frozenset(name for name in await self._limits.names() if name.startswith(OF_QUEUE))

    async def run_once(self) -> None:
        """The duty of the same name."""
        await self.refresh()

    async def through(self, partition: str, taken: Taken, claim: Claiming) -> tuple[Exchanged | None, float | None]:
        """Claims what the gates let through; returns the answer, and how soon to ask again for the rest; None: there is none.

        Args:
            partition: where.
            taken: what there is room for.
            claim: makes the call, with what may be claimed and the permits of tenants.
        """
        are_there = self.are_there
        opened = Opened(taken.wants, is_whole=taken.is_whole)
        answer = None
        try:
            if are_there and taken.capacity:
                await self.open(partition, taken, opened)
            answer = await claim(opened.wants, taken.capacity, opened.of_tenants)
        finally:
            if are_there or (answer is not None and answer.gated):
                self.close(partition, opened, answer)
        return answer, self._pause(partition, opened, answer)

    async def open(self, partition: str, taken: Taken, opened: Opened) -> None:
        """Gets permits for what a call may claim from this partition."""
        for queue in queues_of(taken.wants):
            if (name := OF_QUEUE + queue) in self._names:
                got = await self._get(opened, partition, name, most_of(taken.wants, queue, taken.capacity))
                opened.wants = within(opened.wants, queue, got)
        # A call that asks for less than all gets permits for those that waited in such a call: the others wait for the rest.
        kinds = [(partition, is_whole) for is_whole in ((False, True) if taken.is_whole else (False,))]
        wanted = dict.fromkeys(tenant for kind in kinds for tenant in self._wanted.get(kind, ()))
        if not opened.is_denied:  # else they may wait for just what a gate was shut for
            for kind in kinds:
                self._wanted.pop(kind, None)
        for tenant in [*wanted][:_TENANTS_MAX]:
            await self._get(opened, partition, OF_TENANT + tenant, taken.capacity)

    def _pause(self, partition: str, opened: Opened, answer: Exchanged | None) -> float | None:
        """Tenants that are met for the first time are asked for at once, with permits; others when some may be back."""
        if answer is None or not (answer.gated or (answer.is_bound and opened.is_denied)):
            self._met.pop(partition, None)
            return None
        met = self._met.setdefault(partition, set())
        if answer.claims:
            met.clear()
        has_new = not met.issuperset(answer.gated)
        met.update(answer.gated)
        if has_new:
            return 0.0
        met.clear()
        return DENIED_SECONDS

    def close(self, partition: str, opened: Opened, answer: Exchanged | None) -> None:
        """Keeps the permits that the claims need for as long as they run; returns the others."""
        claims, permitted = (answer.claims, answer.permitted) if answer is not None else ([], dict[int, str]())
        if answer is not None and answer.gated:
            self._wanted[partition, opened.is_whole] = answer.gated
        wanted = {OF_TENANT + tenant for tenants in self._wanted.values() for tenant in tenants}
        for name in list(self._spare):
            # Nothing was asked for, or nobody of this tenant waits here: others may have what is spare.
            if not opened.wants or (name.startswith(OF_TENANT) and name not in wanted):
                self._return(name, self._spare.pop(name))
        for position, claim in enumerate(claims):
            names = [OF_QUEUE + claim.queue, *([OF_TENANT + permitted[position]] if position in permitted else [])]
            used = [(name, opened.permits[name].pop()) for name in names if opened.permits.get(name)]
            if used:
                self._used[claim.run] = partition, used
        for name, permits in opened.permits.items():
            self._held[partition, name] -= len(permits)
            self._return(name, permits)

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its permits are free for the next."""
        partition, used = self._used.pop(claim.run, ("", []))
        for name, permit in used:
            self._held[partition, name] -= 1
            self._spare.setdefault(name, []).append(permit)

    async def give_all_back(self) -> None:
        """Returns what nothing uses: the holder has ended."""
        spare, self._spare = self._spare, {}
        for name, permits in spare.items():
            await self._limits.give_back(LimitUse(name), self._holder, permits)

    async def _get(self, opened: Opened, partition: str, name: str, most: int) -> int:
        spare = self._spare.pop(name, [])
        permits, rest = spare[:most], spare[most:]
        if rest:
            self._return(name, rest)
        is_over = time.monotonic() >= self._turn_ends.get(name, 0)
        if len(permits) < most or is_over:
            kept, asked = ([], permits) if is_over else (permits, [])
            asked = asked + [self._limiter.name() for _ in range(most - len(permits))]
            asker = "" if kept or self._held[partition, name] else self._holder + partition
            self._held[partition, name] += len(permits)
            opened.permits[name] = permits  # whatever becomes of the call, they are used or returned
            taken = await self._limits.take(name, self._holder, await self._limiter.lease_ms(), asked, asker)
            opened.is_denied = opened.is_denied or (taken is not None and taken < len(asked))
            self._held[partition, name] -= len(permits)
            permits = kept + (asked if taken is None else asked[:taken])
            if taken and is_over:
                self._turn_ends[name] = time.monotonic() + TURN_SECONDS
        self._held[partition, name] += len(permits)
        opened.permits[name] = permits
        return len(permits)

    def _return(self, name: str, permits: Sequence[str]) -> None:
        if permits:
            self._limiter.soon(self._limits.give_back(LimitUse(name), self._holder, list(permits)))
