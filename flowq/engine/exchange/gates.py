"""Gates: queues and tenants of which only so many stages run at once, on all workers together.

A worker gets permits for what it knows to wait before it claims, uses those that its claims need and returns the others. When a
stage has ended its permit serves the next claim here: of the partition that lacks one, if any does, each in its turn, else of
whichever asks. What others are hungry for goes to them after a while. What a dead process held expires with its lease.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from flowq.engine.capacity.taken import Taken
from flowq.engine.duties.hints import Hints
from flowq.engine.exchange.opened import Opened
from flowq.engine.exchange.permits import Permits
from flowq.engine.run.limiter import Limiter
from flowq.engine.run.stage_run import RunKey
from flowq.model.exchanged import Exchanged
from flowq.model.limit import OF_QUEUE, OF_TENANT
from flowq.model.outcome import Claim
from flowq.store.store import Store
from flowq.store.tenants import tenants_of
from flowq.store.wakeups import Wakeups
from flowq.store.wants import Wants, most_of, queues_of, within

# How soon a limit that is set or removed is seen; how soon is asked again for what is lacked, if nothing tells that it is there.
REFRESH_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0
# Tenants for which permits are asked before one claim: at least so many have a say in whose turn it is, and at most.
_TENANTS_MIN = 4
_TENANTS_MAX = 16

Claiming = Callable[[Sequence[Wants], int, Mapping[str, int]], Awaitable[Exchanged | None]]


class Gates:
    """The gates of one holder.

    Args:
        store: the store.
        limiter: names permits and knows their lease.
        holder: whose permits they are.
        on_turn: called with a partition when there is a permit that it lacked.
        hints: of limits that were set or removed.
        running: what the holder runs now.
    """

    def __init__(
        self, store: Store, limiter: Limiter, holder: str, on_turn: Callable[[str], None], hints: Hints,
        running: Callable[[], Iterable[Claim]] = tuple,
    ) -> None:  # fmt: skip
        self._permits = Permits(store, limiter, holder, self._on_free)
        self._store, self._limiter = store, limiter
        self._on_turn = on_turn
        self._hints = hints
        self._running = running
        self._marks: list[bytes] = []
        self._changes, self._is_stale = 0, False
        self._names: frozenset[str] = frozenset()
        self._all_names: frozenset[str] = frozenset()
        self._used: dict[RunKey, list[tuple[str, str]]] = {}
        # Permits of what ran before there was a limit: there may be too many of them, so nothing else begins under them.
        self._adopted: set[str] = set()
        # Partition, and whether the call asked for all that is served → the gates that something waits at, and its queue.
        self._waits: dict[tuple[str, bool], list[tuple[str, str]]] = {}
        # Limit → partitions that lack a permit. Partition → when it used one last: who waited for longest has the next one. In
        # one order for all limits: else of two that need the same two permits each would be first for one.
        self._lacking: dict[str, set[str]] = {}
        self._served: dict[str, int] = {}

    @property
    def are_there(self) -> bool:
        """Whether there is any gate; if not, nothing of this costs anything."""
        return bool(self._names or self._permits.spare or self._waits or self._used)

    async def refresh(self) -> None:
        """Learns which queues have limits, and counts what runs already."""
        marks, self._is_stale = self._marks_now(), False
        names = frozenset(await self._permits.limits())
        known, self._all_names = self._all_names, names
        self._names = frozenset(name for name in names if name.startswith(OF_QUEUE))
        self._permits.forget_others(names)
        if marks != self._marks:
            self._changes += 1
        if await self._adopt(names, names - known):
            self._marks = marks

    async def run_once(self) -> None:
        """The duty of the same name, when there is something to learn."""
        await self._hints.until(lambda: self._is_stale or self._marks_now() != self._marks)
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
        are_there, answer, has_new, changes = self.are_there, None, False, self._changes
        try:
            if are_there:
                await self._open(opened)
            answer = await claim(opened.wants, taken.capacity, opened.of_tenants)
        finally:
            if are_there or (answer is not None and answer.gated):
                has_new = self._close(opened, answer)
        # What a call brings that began before a limit was seen was not among what ran when that was counted.
        self._is_stale |= self._changes != changes and answer is not None and bool(answer.claims)
        return answer, 0.0 if has_new else self._pause(partition)

    def listen(self, wakeups: Wakeups) -> None:
        """Hears from now on when others have returned a permit that was lacked here."""
        self._permits.wakeups = wakeups

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its permits are free for the next."""
        for name, permit in self._used.pop(claim.run, []):
            if permit in self._adopted:
                self._adopted.remove(permit)
                self._permits.drop(name, [permit])
            else:
                self._free(name, [permit])

    async def close(self) -> None:
        """Returns all permits: the holder has ended."""
        await self._permits.close()

    # ── what ran before there was a limit ────────────────────────────────────────────────────────────────────────

    async def _adopt(self, names: Collection[str], appeared: Collection[str]) -> bool:
        """Has all that runs counted by the limits that there are; False: one is about to be set. What ran under a permit of a
        limit that has `appeared` again may have lost that meanwhile."""
        claims = list(self._running())
        has_tenants = any(name.startswith(OF_TENANT) for name in names)
        tenants = await tenants_of(self._store, [claim.flow_id for claim in claims]) if has_tenants else {}
        runs: defaultdict[str, list[RunKey]] = defaultdict(list)
        for claim in claims:
            for name in (OF_QUEUE + claim.queue, OF_TENANT + tenants.get(claim.flow_id, "")):
                if name in appeared or (name in names and name not in dict(self._used.get(claim.run, ()))):
                    runs[name].append(claim.run)
        return all([await self._count(name, of_name) for name, of_name in runs.items()])

    async def _count(self, name: str, runs: Iterable[RunKey]) -> bool:
        """Counts these runs under new permits, which are returned when they end: they may be more than the limit allows."""
        going_on = {claim.run for claim in self._running()}
        new = {run: self._limiter.name() for run in runs if run in going_on}
        replaced: list[str] = []
        if not new:
            return True
        for run, permit in new.items():
            used = self._used.get(run, [])
            replaced += [known for of_limit, known in used if of_limit == name]
            self._used[run] = [*(one for one in used if one[0] != name), (name, permit)]
        self._adopted.difference_update(replaced)
        self._adopted.update(new.values())
        self._all_names -= {name}  # until it is done
        if is_set := await self._permits.adopt(name, list(new.values()), replaced):
            self._all_names |= {name}
        # Those that ended meanwhile were returned, maybe before they were counted.
        going_on = {claim.run for claim in self._running()}
        self._permits.drop(name, [permit for run, permit in new.items() if run not in going_on], is_in_use=False)
        return is_set

    # ── before the call ──────────────────────────────────────────────────────────────────────────────────────────

    async def _open(self, opened: Opened) -> None:
        """Gets permits for what waits, as far as is known; for the rest only those that are spare."""
        waits = [one for kind in opened.kinds for one in self._waits.get(kind, ())]
        wants, capacity = opened.wants, opened.capacity
        for queue in queues_of(wants):
            if (name := OF_QUEUE + queue) in self._names:
                await self._offer(opened, name, most_of(wants, queue, capacity), is_known=(name, queue) in waits)
                opened.wants = within(opened.wants, queue, len(opened.permits[name]))
        if wants:
            await self._offer_tenants(opened, waits)
        for name in list(self._permits.spare):
            # Nobody has a use for it; or there is no room: of what was freed right now the next call will make use.
            if name not in self._lacking if wants else self._permits.is_idle(name):
                self._permits.give_back(name)

    async def _offer_tenants(self, opened: Opened, waits: Iterable[tuple[str, str]]) -> None:
        """Of tenants whose permits are spare, and of those that wait where the queue lets more through, the first first: of more
        than could be served, because this call may not ask for what one waits for."""
        got = 0
        waiting = dict.fromkeys(
            name for name, queue in waits if name.startswith(OF_TENANT) and self._could_use(opened, name, queue)
        )
        for name in [name for name in self._permits.spare if name.startswith(OF_TENANT) and name not in waiting]:
            await self._offer(opened, name, opened.capacity, is_known=False)
        for name in [name for name in waiting if not self._permits.denied_for(name) or name in self._permits.spare][
            :_TENANTS_MAX
        ]:
            if got < max(_TENANTS_MIN, 2 * opened.capacity) or name in self._permits.spare:
                await self._offer(opened, name, opened.capacity, is_known=True)
                got += len(opened.permits[name])

    def _could_use(self, opened: Opened, name: str, queue: str) -> bool:
        """Whether a permit of this limit is of use to the call: for a tenant's it needs one of its queue, too."""
        of_queue = OF_QUEUE + queue
        return name == of_queue or of_queue not in self._names or bool(opened.permits.get(of_queue))

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
        gated, bound = ([], []) if answer is None else (answer.gated, answer.bound)
        told = [(OF_TENANT + tenant, queue) for tenant, queue in gated]
        queues = dict.fromkeys([*bound, *(queue for _, queue in gated)])
        told += [(name, queue) for queue in queues if (name := OF_QUEUE + queue) in self._names]
        # Where permits are left it is something else that it waits for: room, its turn, or a permit of its queue.
        told.sort(key=lambda one: bool(opened.permits.get(one[0])))
        waits = [name for name, queue in told if self._could_use(opened, name, queue) and not opened.permits.get(name)]
        known = dict.fromkeys(one for one in told if one[0].startswith(OF_TENANT) or one[0] in waits)
        if answer is not None and len(answer.claims) == opened.capacity:  # it was full before it was known which queues have more
            known |= {(name, name.removeprefix(OF_QUEUE)): None for name in opened.permits if name.startswith(OF_QUEUE)}
        for kind in opened.kinds:
            self._waits.pop(kind, None)
        if known:
            self._waits[opened.partition, opened.is_whole] = list(known)
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
