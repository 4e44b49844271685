"""The permits of one holder: got before a claim, used while its stages run, and then at hand for the next."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Sequence
from functools import partial

from flowq.engine.run.limiter import Limiter
from flowq.model.limit import LimitUse
from flowq.store.limits import Limits
from flowq.store.store import Store
from flowq.store.wakeups import Wakeups

# How soon somebody who got no permit asks again if not told of one, at first and in the end: hunger is forgotten after 1.5 s
# (scripts/hunger.lua).
DENIED_SECONDS = 0.1
_DENIED_MAX_SECONDS = 1.0
# A permit that is spare for so long is not about to be used by a call under way.
_SPARE_SECONDS = 0.1
# For how long who has got permits uses them again without asking whether others want some.
TURN_SECONDS = 1.0


class Permits:
    """What this holder has, by the names of limits.

    Args:
        store: the store.
        limiter: names permits and knows their lease.
        holder: whose they are.
        on_free: called with a limit when there is a permit that this holder was denied.
    """

    def __init__(self, store: Store, limiter: Limiter, holder: str, on_free: Callable[[str], None]) -> None:
        self._limits = Limits(store)
        self._limiter = limiter
        self._holder = holder
        self._on_free = on_free
        self.wakeups: Wakeups | None = None  # without them it asks again by itself
        self._listening: dict[str, Callable[[], None]] = {}
        self.spare: dict[str, list[str]] = {}
        self._spare_since: dict[str, float] = {}
        # Limit → how many are in use or offered.
        self._held = Counter[str]()
        # Limit → until when they are used again without asking, and until when asking for more is in vain, in all likelihood.
        self._turn_ends: dict[str, float] = {}
        self._denied: dict[str, tuple[float, float]] = {}

    async def limits(self) -> list[str]:
        """The names of all limits."""
        return await self._limits.names()

    def denied_for(self, name: str) -> float:
        """For how many seconds asking for more is in vain, in all likelihood."""
        until, _ = self._denied.get(name, (0.0, 0.0))
        return max(0.0, until - time.monotonic())

    def is_idle(self, name: str) -> bool:
        """Whether permits have been spare for a while."""
        return time.monotonic() - self._spare_since.get(name, 0.0) >= _SPARE_SECONDS

    def has_any(self, name: str) -> bool:
        """Whether one is in use here, so that one will be free here."""
        return self._held[name] > 0

    async def offer(self, offered: dict[str, list[str]], name: str, most: int, *, leaves: int, asks: bool) -> bool:
        """Gets permits for a call; tells whether it has got as many as it could use.

        Args:
            offered: where they are noted: whatever becomes of the call, they are used or returned.
            name: of which limit.
            most: how many the call could use.
            leaves: how many of those that are spare are for others.
            asks: whether to get more than the spare ones.
        """
        spare = self.spare.pop(name, [])
        count = max(0, min(most, len(spare) - leaves))
        permits, rest = spare[:count], spare[count:]
        if rest:
            self.spare[name] = rest
        is_over = bool(permits or asks) and time.monotonic() >= self._turn_ends.get(name, 0.0)
        kept, asked = ([], permits) if is_over else (permits, [])
        # Who has none is to have its turn before those that have had theirs.
        asker = self._holder if asks and not kept and not self._held[name] else ""
        if asks and not self.denied_for(name):
            asked = asked + [self._limiter.name() for _ in range(most - len(permits))]
        offered[name] = kept + asked
        self._held[name] += len(offered[name])
        if asked:
            taken = await self._limits.take(name, self._holder, await self._limiter.lease_ms(), asked, asker)
            if taken is not None:
                self._note_answer(name, len(asked), taken, is_over=is_over)
                if asker and not taken:
                    self._listen(name)
                self._held[name] -= len(asked) - taken
                offered[name] = kept + asked[:taken]
        return len(offered[name]) == most

    def _note_answer(self, name: str, asked: int, taken: int, *, is_over: bool) -> None:
        if taken and is_over:
            self._turn_ends[name] = time.monotonic() + TURN_SECONDS
        if taken < asked:
            _, before = self._denied.get(name, (0.0, 0.0))
            pause = DENIED_SECONDS if taken or not before else min(2 * before, _DENIED_MAX_SECONDS)
            self._denied[name] = time.monotonic() + pause, pause
        else:
            self._denied.pop(name, None)

    def _listen(self, name: str) -> None:
        if self.wakeups is not None and name not in self._listening:
            self._listening[name] = self.wakeups.on_permit(name, self._holder, partial(self._told, name))

    def _told(self, name: str) -> None:
        self._denied.pop(name, None)
        self._on_free(name)

    def free(self, name: str, permits: Sequence[str]) -> None:
        """What was in use or offered is at hand for the next."""
        if permits:
            self._held[name] -= len(permits)
            self.spare.setdefault(name, []).extend(permits)
            self._spare_since[name] = time.monotonic()

    def give_back(self, name: str) -> None:
        """Others may have what is spare."""
        if permits := self.spare.pop(name, None):
            self._limiter.soon(self._return(name, permits))

    async def adopt(self, name: str, permits: Sequence[str], instead_of: Sequence[str]) -> bool:
        """Counts what runs already, some of it under other permits before, whatever the limit allows; False: there is none."""
        self._held[name] += len(permits) - len(instead_of)
        try:
            return await self._limits.adopt(name, self._holder, await self._limiter.lease_ms(), permits)
        finally:
            self.drop(name, instead_of, is_in_use=False)

    def drop(self, name: str, permits: Sequence[str], *, is_in_use: bool = True) -> None:
        """Returns what was in use, or is for certain not, without having it at hand for the next."""
        if permits:
            self._held[name] -= len(permits) if is_in_use else 0
            self._limiter.soon(self._return(name, permits))

    def forget_others(self, names: Container[str]) -> None:
        """Remembers nothing of limits that are none of these, and hears no more of those of which enough was got."""
        for name in [name for name in self._listening if name not in names or name not in self._denied]:
            self._listening.pop(name)()
        self._held = +self._held
        for known in (self._turn_ends, self._denied, self._spare_since):
            for name in [name for name in known if name not in names]:
                known.pop(name)

    async def _return(self, name: str, permits: Sequence[str]) -> None:
        await self._limits.give_back(LimitUse(name), self._holder, permits)
        self._denied.pop(name, None)  # another call of this process may have asked while they were on their way

    async def close(self) -> None:
        """Returns what nothing uses: the holder has ended."""
        for forget in self._listening.values():
            forget()
        spare, self.spare = self.spare, {}
        for name, permits in spare.items():
            await self._limits.give_back(LimitUse(name), self._holder, permits)
