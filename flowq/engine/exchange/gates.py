"""Gates: queues and tenants of which only so many stages run at once, on all workers together.

A worker gets permits for what it knows to wait before it claims, uses those that its claims need and returns the others. When a
stage has ended its permit serves the next claim here: of the partition that lacks one, if any does, each in its turn, else of
whichever asks. What others are hungry for goes to them after a while. What a dead process held expires with its lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from flowq.engine.capacity.taken import Taken
from flowq.engine.duties.hints import Hints
from flowq.engine.exchange.permits import Permits
from flowq.engine.run.limiter import Limiter
from flowq.engine.run.stage_run import RunKey
from flowq.model.exchanged import Exchanged
from flowq.model.limit import OF_QUEUE, OF_TENANT
from flowq.model.outcome import Claim
from flowq.store.store import Store
from flowq.store.wakeups import Wakeups
from flowq.store.wants import Wants, most_of, queues_of, within

# How soon a limit that is set or removed is seen; how soon is asked again for what is lacked, if nothing tells that it is there.
REFRESH_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0
# Tenants for which permits are asked before one claim: at least so many have a say in whose turn it is, and at most.
_TENANTS_MIN = 4
_TENANTS_MAX = 16

Claiming = Callable[[Sequence[Wants], int, Mapping[str, int]], Awaitable[Exchanged | None]]


class Opened(msgspec.Struct):
    """What one claim may take.

    Attributes:
        partition: from which partition.
        wants: of which queues, and how much; []: nothing.
        capacity: how many stages at most.
        is_whole: whether it asks for all that is served here.
        permits: limit → the permits that were got for it.
        asked: limits of which permits were asked for because something is known to wait for them.
        short: limits of which fewer were got than could be used.
    """

    partition: str
    wants: Sequence[Wants]
    capacity: int
    is_whole: bool
    permits: dict[str, list[str]] = {}
    asked: dict[str, None] = {}
    short: set[str] = set()

    @property
    def kinds(self) -> list[tuple[str, bool]]:
        """Where to look for what waits, the rest of what is served left to calls that ask for all."""
        return [(self.partition, is_whole) for is_whole in ((False, True) if self.is_whole else (False,))]

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
        on_turn: called with a partition when there is a permit that it lacked.
        hints: of limits that were set or removed.
    """

    def __init__(self, store: Store, limiter: Limiter, holder: str, on_turn: Callable[[str], None], hints: Hints) -> None:
        self._permits = Permits(store, limiter, holder, self._on_free)
        self._on_turn = on_turn
        self._hints = hints
        self._marks: list[bytes] = []
        self._names: frozenset[str] = frozenset()
        self._used: dict[RunKey, list[tuple[str, str]]] = {}
        # Partition, and whether the call asked for all that is served → the gates that something waits at.
        self._waits: dict[tuple[str, bool], list[str]] = {}
        # Limit → partitions that lack a permit. Partition → when it used one last: who waited for longest has the next one. In
        # one order for all limits: else of two that need the same two permits each would be first for one.
        self._lacking: dict[str, set[str]] = {}
        self._served: dict[str, int] = {}

    @property
    def are_there(self) -> bool:
        """Whether there is any gate; if not, nothing of this costs anything."""
        return bool(self._names or self._permits.spare or self._waits or self._used)

    async def refresh(self) -> None:
        """Learns which queues have limits."""
        marks = self._marks_now()
        self._names = frozenset(name for name in await self._permits.limits() if name.startswith(OF_QUEUE))
        self._marks = marks

    async def run_once(self) -> None:
        """The duty of the same name, when there is something to learn."""
        await self._hints.until(lambda: self._marks_now() != self._marks)
        await self.refresh()

    def _marks_now(self) -> list[bytes]:
        return [house.limits for house in self._hints.houses]

    async def through(self, partition: str, taken: Taken, claim: Claiming) -> tuple[Exchanged | None, float | None]:
        """Claims what the gates let through; returns the answer, and how soon to ask again for the rest; None: there is none.

        Args:
            partition: where.
            taken: what there is room for.
            claim: makes the call, with what may be claimed and the permits of tenants.
        """
        opened = Opened(partition, taken.wants, taken.capacity, taken.is_whole)
        are_there, answer, has_new = self.are_there, None, False
        try:
            if are_there:
                await self._open(opened)
            answer = await claim(opened.wants, taken.capacity, opened.of_tenants)
        finally:
            if are_there or (answer is not None and answer.gated):
                has_new = self._close(opened, answer)
        return answer, 0.0 if has_new else self._pause(partition)

    def listen(self, wakeups: Wakeups) -> None:
        """Hears from now on when others have returned a permit that was lacked here."""
        self._permits.wakeups = wakeups

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its permits are free for the next."""
        for name, permit in self._used.pop(claim.run, []):
            self._free(name, [permit])

    async def close(self) -> None:
        """Returns all permits: the holder has ended."""
        await self._permits.close()

    # ── before the call ──────────────────────────────────────────────────────────────────────────────────────────

    async def _open(self, opened: Opened) -> None:
        """Gets permits for what waits, as far as is known; for the rest only those that are spare."""
        waits = dict.fromkeys(name for kind in opened.kinds for name in self._waits.get(kind, ()))
        wants, capacity = opened.wants, opened.capacity
        for queue in queues_of(wants):
            if (name := OF_QUEUE + queue) in self._names:
                await self._offer(opened, name, most_of(wants, queue, capacity), is_known=name in waits)
                opened.wants = within(opened.wants, queue, len(opened.permits[name]))
        if wants:
            await self._offer_tenants(opened, waits)
        for name in list(self._permits.spare):
            # Nobody has a use for it; or there is no room: of what was freed right now the next call will make use.
            if name not in self._lacking if wants else self._permits.is_idle(name):
                self._permits.give_back(name)

    async def _offer_tenants(self, opened: Opened, waits: Iterable[str]) -> None:
        """Of tenants whose permits are spare, and of those that wait, the first first: of more than could be served, because this
        call may not ask for what one waits for."""
        got = 0
        waiting = [name for name in waits if name.startswith(OF_TENANT)]
        for name in [name for name in self._permits.spare if name.startswith(OF_TENANT) and name not in waiting]:
            await self._offer(opened, name, opened.capacity, is_known=False)
        for name in [name for name in waiting if not self._permits.denied_for(name) or name in self._permits.spare][
            :_TENANTS_MAX
        ]:
            if got < max(_TENANTS_MIN, 2 * opened.capacity) or name in self._permits.spare:
                await self._offer(opened, name, opened.capacity, is_known=True)
                got += len(opened.permits[name])

    async def _offer(self, opened: Opened, name: str, most: int, *, is_known: bool) -> None:
        if is_known:
            opened.asked[name] = None
        ahead = self._line(name, opened.partition).index(opened.partition)
        if not await self._permits.offer(opened.permits, name, most, leaves=ahead, asks=is_known):
            opened.short.add(name)

    # ── after the call ───────────────────────────────────────────────────────────────────────────────────────────

    def _close(self, opened: Opened, answer: Exchanged | None) -> bool:
        """Keeps the permits that the claims need for as long as they run; returns the others. Tells whether something waits for
        permits that were not asked for: that is done at once."""
        if answer is not None:
            self._use(opened, answer)
        has_new = bool(opened.wants) and self._note_waits(opened, answer)
        for name, permits in opened.permits.items():
            self._free(name, permits)
            if not has_new and name not in self._lacking:  # else the next call may need it beside what it asks for
                self._permits.give_back(name)
        return has_new

    def _use(self, opened: Opened, answer: Exchanged) -> None:
        for position, claim in enumerate(answer.claims):
            tenant = answer.permitted.get(position)
            names = [OF_QUEUE + claim.queue, *([OF_TENANT + tenant] if tenant is not None else [])]
            used = [(name, opened.permits[name].pop()) for name in names if opened.permits.get(name)]
            if used:
                self._used[claim.run] = used
                self._served[opened.partition] = max(self._served.values(), default=0) + 1

    def _note_waits(self, opened: Opened, answer: Exchanged | None) -> bool:
        told = [] if answer is None else [OF_TENANT + tenant for tenant in answer.gated] + [OF_QUEUE + q for q in answer.bound]
        # Where permits are left it is something else that it waits for.
        waits = [name for name in told if not opened.permits.get(name) and (name.startswith(OF_TENANT) or name in self._names)]
        known = waits
        if answer is not None and len(answer.claims) == opened.capacity:  # it was full before it was known who has more
            unreached = [name for name, permits in opened.permits.items() if permits]
            known = list(dict.fromkeys([*unreached, *waits, *opened.permits]))
        for kind in opened.kinds:
            self._waits.pop(kind, None)
        if known:
            self._waits[opened.partition, opened.is_whole] = known
        new = [name for name in waits if name not in opened.asked and not self._permits.denied_for(name)]
        lacked = {name for name in waits if name not in new and (name in opened.short or name not in opened.permits)}
        for name in {*lacked, *self._lacking}:
            self._note_lack(opened.partition, name, is_lacked=name in lacked)
        return bool(new)

    def _note_lack(self, partition: str, name: str, *, is_lacked: bool) -> None:
        lacking = self._lacking.setdefault(name, set())
        (lacking.add if is_lacked else lacking.discard)(partition)
        if not lacking:
            del self._lacking[name]
        self._tell(name)

    def _free(self, name: str, permits: Sequence[str]) -> None:
        self._permits.free(name, permits)
        self._tell(name)

    def _on_free(self, name: str) -> None:
        for partition in self._line(name)[:1]:
            self._on_turn(partition)

    def _tell(self, name: str) -> None:
        count = len(self._permits.spare.get(name, ()))
        for partition in self._line(name)[:count]:
            self._on_turn(partition)

    def _line(self, name: str, *more: str) -> list[str]:
        """The partitions that lack a permit, and these, in their turns."""
        return sorted({*self._lacking.get(name, ()), *more}, key=lambda partition: (self._served.get(partition, 0), partition))

    def _pause(self, partition: str) -> float | None:
        """One partition asks whether other holders have returned permits; the others are told when there is one."""
        ahead = {name: self._line(name).index(partition) for name, lacking in self._lacking.items() if partition in lacking}
        if not ahead:
            return None
        if any(count < len(self._permits.spare.get(name, ())) for name, count in ahead.items()):
            return 0.0
        asks = [name for name, count in ahead.items() if not count and not self._permits.has_any(name)]
        return min([_PATIENCE_SECONDS, *(self._permits.denied_for(name) for name in asks)])
