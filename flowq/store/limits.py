"""Limits in the store: set, listed, removed; permits acquired and returned. Each limit lives in a slot of its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from flowq.errors import CorruptState, DefinitionError, InvalidValue, LimitNotSet
from flowq.model.limit import LimitRule, LimitUse, Rate
from flowq.store.keys import HELD, HOLDER, LIMITS_MARK, LINE, PERMITS, RULES, WINDOWS
from flowq.store.store import Store

_pack = msgspec.msgpack.Encoder().encode
_rules = msgspec.msgpack.Decoder(LimitRule)
_LEASE_MS = 15_000
# What stands for all keys together: see scripts/limits.lua.
ALL = "^"
# So many commands are sent in one round trip: they wait in the server's memory until all are answered.
_AT_ONCE = 1_000


class Granted(msgspec.Struct, frozen=True):
    """A permit. `at` is the server's time from when on it may be used; `now` its time when it answered: milliseconds.

    Until then the limit may be changed: whoever waits asks again meanwhile, and once more when the time has come.
    """

    now: int
    at: int


class Waits(msgspec.Struct, frozen=True):
    """No permit yet: ask again at `at`; `ahead` others are served before."""

    now: int
    at: int
    ahead: int


class LimitState(msgspec.Struct, frozen=True, kw_only=True):
    """A limit as it stands.

    Attributes:
        name: its name.
        rule: what it allows.
        held: how many permits are held, of those that its concurrency bounds, under all keys.
        waiting: how many wait for one, under all keys: for a place, or for the moment that the rate has given them. Of the
            limit of a queue or tenant, in `producer.limits()`: how many of its stages are ready while it is used up.
        next_at: when it next allows one request more without a key, milliseconds since 1970; None: now.
    """

    name: str
    rule: LimitRule
    held: int = 0
    waiting: int = 0
    next_at: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether all permits are held that its concurrency allows at once, without keys."""
        return 0 < self.rule.concurrency <= self.held


class Limits:
    """The limits of a namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = store.connection

    async def set(self, name: str, rule: LimitRule) -> None:
        """Sets a limit, or changes it: who was granted a later time asks again, see `Granted`. What is in use stays."""
        tag = self._store.keys.limit(name)
        if _is(rule, await self._connection.command("GET", tag + RULES)):  # nobody need ask again
            return
        await self._connection.command("SADD", self._store.keys.limits, name)
        await self.mark()
        await self._connection.run("allow", tag, _pack((rule.rates, rule.concurrency, secrets.token_hex(8))))

    async def remove(self, name: str) -> bool:
        """Removes a limit; False: there was none."""
        removed = await self._connection.command("DEL", self._store.keys.limit(name) + RULES)
        await self._connection.command("SREM", self._store.keys.limits, name)
        await self.mark()
        return bool(removed)

    async def mark(self) -> None:
        """Workers hear of it with their next exchange: it lies where they come by, and the names don't."""
        await self._connection.command("SET", self._store.partitions[0] + LIMITS_MARK, secrets.token_hex(4))

    async def names(self, *, patience: float | None = None) -> list[str]:
        """The names of all limits."""
        found = await self._connection.command("SMEMBERS", self._store.keys.limits, patience=patience)
        return sorted(name.decode() for name in found)

    async def states(self) -> list[LimitState]:
        """All limits as they stand."""
        return [state for name in await self.names() if (state := await self.state(name)) is not None]

    async def state(self, name: str) -> LimitState | None:
        """One limit; None: nobody has set it."""
        tag = self._store.keys.limit(name)
        seconds, micros = await self._connection.command("TIME")
        now = int(seconds) * 1000 + int(micros) // 1000
        from_now = (f"({now}", "+inf")
        packed, own, keyed, waiting, last = await self._connection.commands(
            ("GET", tag + RULES),
            ("ZCOUNT", tag + PERMITS, *from_now),
            ("ZCOUNT", tag + PERMITS + ALL, *from_now),
            ("ZCOUNT", tag + LINE + ALL, *from_now),
            ("HGET", tag + WINDOWS, "last"),
        )
        if packed is None:
            return None
        next_at = int(last or 0)
        rule = _rules.decode(packed)
        return LimitState(name=name, rule=rule, held=own + keyed, waiting=waiting, next_at=next_at if next_at > now else None)

    async def lease_of(self, holder: str) -> int:
        """How long the permits of a holder last without a sign of life: as long as its lease, milliseconds."""
        found = await self._connection.command("HGET", self._store.partitions[0] + HOLDER + holder, "lease")
        return int(found) if found else _LEASE_MS

    async def acquire(
        self, use: LimitUse, permit: str, holder: str, lease_ms: int, *, is_within: bool = False
    ) -> Granted | Waits:
        """A permit, or how long to wait before asking for it again; see scripts/acquire.lua.

        `is_within`: whoever asks has such a permit already, and gives it back only afterwards.

        Raises:
            LimitNotSet: there is no such limit.
            InvalidValue: it never allows so much, or does not count this.
            DefinitionError: it is asked for a place within a place.
        """
        tag = self._store.keys.limit(use.name)
        within = "within" if is_within else ""
        answer = await self._connection.run("acquire", tag, use.key, permit, holder, lease_ms, _pack(use.amounts), within)
        words: list[Any] = [part.decode() if isinstance(part, bytes) else part for part in answer]
        match words:
            case ["granted", now, at]:
                return Granted(now, at)
            case ["waits", now, at, ahead]:
                return Waits(now, at, ahead)
            case ["never", what, amount, period_ms]:
                asked = dict(use.amounts).get(what, 1)
                raise InvalidValue(f"{what} of limit {use.name!r}", asked, f"at most {Rate(what, amount, period_ms)}")
            case ["within"]:
                of_key = f" of key {use.key!r}" if use.key else ""
                raise DefinitionError(
                    f"this run holds a place of limit {use.name!r}{of_key} already: it would wait for itself",
                    "take it once: as the option of the stage, or around a block",
                )
            case ["uncounted", what]:
                raise InvalidValue(f"limit {use.name!r}", f"{what}=…", "what the limit counts; `flowq limits` shows it")
            case _:
                raise LimitNotSet(use.name)

    async def give_back(self, use: LimitUse, holder: str, permits: Sequence[str], *, is_unused: bool = False) -> None:
        """Returns permits that are needed no more."""
        if permits:
            tag = self._store.keys.limit(use.name)
            await self._connection.run("return", tag, use.key, holder, "unused" if is_unused else "", *permits)

    async def take(self, name: str, holder: str, lease_ms: int, permits: Sequence[str], asker: str = "") -> int | None:
        """Takes as many permits as there are, up to all of these, and gives the others back; None: there is no such limit.

        Args:
            asker: who is to have its turn before those that have had theirs, if there is none now.
        """
        taken: int = await self._connection.run("take", self._store.keys.limit(name), holder, lease_ms, asker, *permits)
        return None if taken < 0 else taken

    async def adopt(self, name: str, holder: str, lease_ms: int, permits: Sequence[str]) -> bool:
        """Counts what runs already, whatever the limit allows; False: there is no such limit."""
        return await self.take(name, holder, lease_ms, permits, "*") is not None

    async def extend(self, lease_ms: int, holders: Iterable[str], *, patience: float | None = None) -> bool:
        """Pushes out the deadlines of all permits that these holders have; False: they have none.

        Only for limits of which they have some it costs a call each. One that is damaged keeps none of the others from it.
        """
        holders = list(holders)
        names = await self._of(holders, patience) if holders else []
        damaged: CorruptState | None = None
        for name in names:
            try:
                await self._connection.run("extend", self._store.keys.limit(name), lease_ms, *holders, patience=patience)
            except CorruptState as error:
                damaged = error
        if damaged is not None:
            raise damaged
        return bool(names)

    async def _of(self, holders: Sequence[str], patience: float | None) -> list[str]:
        """The limits of which these holders have permits."""
        names = await self.names(patience=patience)
        found: list[int] = []
        for first in range(0, len(names), _AT_ONCE):
            tags = [self._store.keys.limit(name) for name in names[first : first + _AT_ONCE]]
            asked = [("EXISTS", *(tag + HELD + holder for holder in holders)) for tag in tags]
            found += await self._connection.commands(*asked, patience=patience)
        return [name for name, count in zip(names, found, strict=True) if count]


def _is(rule: LimitRule, packed: bytes | None) -> bool:
    try:
        return packed is not None and _rules.decode(packed) == rule
    except msgspec.DecodeError:  # damaged: it is written anew
        return False
