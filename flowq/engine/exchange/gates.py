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

from flowq.engine.duties.hints import Hints
from flowq.engine.run.limiter import Limiter
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
    """

    wants: Sequence[Wants]
    permits: dict[str, list[str]] = {}
    is_denied: bool = False

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
        hints: of limits that were set or removed.
    """

    def __init__(self, store: Store, limiter: Limiter, holder: str, hints: Hints) -> None:
        self._limits = Limits(store)
        self._hints = hints
        self._marks: list[bytes] = []
        self._limiter = limiter
        self._holder = holder
        self._names: frozenset[str] = frozenset()
        self._spare: dict[str, list[str]] = {}
        self._used: dict[tuple[str, int, int], tuple[str, list[tuple[str, str]]]] = {}
        # Partition and limit → how many permits are in use; limit → until when they are used again without asking.
        self._in_use = Counter[tuple[str, str]]()
        self._turn_ends: dict[str, float] = {}
        # Partition → tenants of which more waits there than there were permits for.
        self._wanted: dict[str, list[str]] = {}

    @property
    def are_there(self) -> bool:
        """Whether there is any gate; if not, nothing of this costs anything."""
        return bool(self._names or self._spare or self._wanted or self._used)

    async def refresh(self) -> None:
        """Learns which queues have limits."""
        marks = self._marks_now()
        self._names = frozenset(name for name in await self._limits.names() if name.startswith(OF_QUEUE))
        self._marks = marks

    async def run_once(self) -> None:
        """The duty of the same name, when there is something to learn."""
        await self._hints.until(lambda: self._marks_now() != self._marks)
        await self.refresh()

    def _marks_now(self) -> list[bytes]:
        return [house.limits for house in self._hints.houses]

    async def through(
        self, partition: str, capacity: int, wants: Sequence[Wants], claim: Claiming
    ) -> tuple[Exchanged | None, bool]:
        """Claims what the gates let through; returns the answer, and whether a gate was shut.

        Args:
            partition: where.
            capacity: how many stages at most; 0: the call claims none.
            wants: of which queues.
            claim: makes the call, with what may be claimed and the permits of tenants.
        """
        if not self.are_there:
            answer = await claim(wants, capacity, {})
            if answer is not None and answer.gated:
                self.close(partition, Opened(wants), answer)
            return answer, False
        opened = await self.open(partition, capacity, wants) if capacity else Opened(wants)
        answer = None
        try:
            answer = await claim(opened.wants, capacity if opened.wants else 0, opened.of_tenants)
        finally:
            self.close(partition, opened, answer)
        return answer, opened.is_denied

    async def open(self, partition: str, capacity: int, wants: Sequence[Wants]) -> Opened:
        """Gets permits for a claim of at most so many stages from this partition."""
        opened = Opened(wants, {})
        for queue in queues_of(wants):
            if (name := OF_QUEUE + queue) in self._names:
                opened.wants = within(
                    opened.wants, queue, await self._get(opened, partition, name, most_of(wants, queue, capacity))
                )
        if opened.wants:
            # Where a queue's gate was shut they are asked for again: they may wait in that very queue.
            waiting = self._wanted.get(partition, []) if opened.is_denied else self._wanted.pop(partition, [])
            for tenant in waiting[:_TENANTS_MAX]:
                await self._get(opened, partition, OF_TENANT + tenant, capacity)
        return opened

    def close(self, partition: str, opened: Opened, answer: Exchanged | None) -> None:
        """Keeps the permits that the claims need for as long as they run; returns the others."""
        claims, permitted = (answer.claims, answer.permitted) if answer is not None else ([], dict[int, str]())
        if answer is not None and answer.gated:
            self._wanted[partition] = answer.gated
        wanted = {OF_TENANT + tenant for tenants in self._wanted.values() for tenant in tenants}
        for name in list(self._spare):
            # Nothing was asked for, or nobody of this tenant waits here: others may have what is spare.
            if not opened.wants or (name.startswith(OF_TENANT) and name not in wanted):
                self._return(name, self._spare.pop(name))
        for position, claim in enumerate(claims):
            names = [OF_QUEUE + claim.queue, *([OF_TENANT + permitted[position]] if position in permitted else [])]
            used = [(name, opened.permits[name].pop()) for name in names if opened.permits.get(name)]
            if used:
                self._used[claim.flow_id, claim.index, claim.token.fence] = partition, used
                self._in_use.update((partition, name) for name, _ in used)
        for name, permits in opened.permits.items():
            self._return(name, permits)

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its permits are free for the next."""
        partition, used = self._used.pop((claim.flow_id, claim.index, claim.token.fence), ("", []))
        for name, permit in used:
            self._in_use[partition, name] -= 1
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
            asker = "" if self._in_use[partition, name] else self._holder + partition
            taken = await self._limits.take(name, self._holder, await self._limiter.lease_ms(), asked, asker)
            opened.is_denied = opened.is_denied or (taken is not None and taken < len(asked))
            permits = kept + (asked if taken is None else asked[:taken])
            if taken and is_over:
                self._turn_ends[name] = time.monotonic() + TURN_SECONDS
        opened.permits.setdefault(name, []).extend(permits)
        return len(permits)

    def _return(self, name: str, permits: Sequence[str]) -> None:
        if permits:
            self._limiter.soon(self._limits.give_back(LimitUse(name), self._holder, list(permits)))
