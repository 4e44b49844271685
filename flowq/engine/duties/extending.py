"""Keeps the permits of living holders: extended after their leases, whose renewal neither waits for it nor depends on it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from flowq.errors import FlowqError
from flowq.store.ending import end
from flowq.store.limits import Limits
from flowq.store.store import Store

log = logging.getLogger("flowq.engine")

# How often a holder has asked for permits, where that is not known: it may have some at any time.
UNKNOWN = -1


class PermitKeeper:
    """Extends the permits of some holders, and asks nothing for those that have none.

    Args:
        store: the store.
        lease_ms: how long permits last without a sign of life.
        patience: for how many seconds a server that does not answer is asked again.
    """

    def __init__(self, store: Store, lease_ms: int, patience: float) -> None:
        self._limits = Limits(store)
        self._lease_ms = lease_ms
        self._patience = patience
        self._extending: asyncio.Task[None] | None = None
        # Holder → how often it had asked for permits, and since when it was that often.
        self._asked: dict[str, tuple[int, float]] = {}
        # Holder → how often it had asked when it had none, nor was anything under way.
        self._settled: dict[str, int] = {}
        self._has_failed = False

    def extend(self, asked: Mapping[str, int]) -> None:
        """Begins to extend, unless that goes on still from the last time.

        Args:
            asked: holder → how often it has asked for permits so far, or UNKNOWN.
        """
        now = time.monotonic()
        before, self._asked = self._asked, {}
        for holder, count in asked.items():
            known = before.get(holder)
            self._asked[holder] = known if known is not None and known[0] == count else (count, now)
        self._settled = {holder: count for holder, count in self._settled.items() if asked.get(holder) == count}
        users = {holder: count for holder, count in asked.items() if count and holder not in self._settled}
        if users and (self._extending is None or self._extending.done()):
            # What was asked for so long ago is answered.
            still = [holder for holder in users if now - self._asked[holder][1] >= self._lease_ms / 1000]
            self._extending = asyncio.create_task(self._extend(users, still))

    async def close(self) -> None:
        """Ends what goes on."""
        await end(self._extending)

    async def _extend(self, users: Mapping[str, int], still: list[str]) -> None:
        try:
            has_any = await self._limits.extend(self._lease_ms, users, patience=self._patience)
        except FlowqError as error:
            if not self._has_failed:
                log.warning("permits of limits could not be extended, which is tried again: %s", error)
            self._has_failed = True
            return
        self._has_failed = False
        if not has_any:
            self._settled |= {holder: users[holder] for holder in still if users[holder] != UNKNOWN}
