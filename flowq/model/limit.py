"""Limits: what a named limit allows, and what one use of it takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, cast

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import shown_duration, to_ms
from flowq.model.names import NAME_IS, check_flow_id, is_name

# What a use takes one of if nothing else is said.
REQUESTS: Final = "requests"
# Limits that workers keep to before they claim: on a queue's stages, and on a tenant's.
OF_QUEUE: Final = "queue:"
OF_TENANT: Final = "tenant:"

AMOUNT_MAX: Final = 10**12
CONCURRENCY_MAX: Final = 100_000
_RATES_MAX = 8
_PERIOD_MS_MIN, _PERIOD_MS_MAX = 100, 86_400_000

# A colon is allowed, because `queue:gpu` has one; braces are not, because the name is part of a hash tag.
_LIMIT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-:]{0,127}")
_LIMIT_NAME_MAX = 128
_WHAT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_RATE = re.compile(r"(\d+)/(.+)")
# A stage that waits for a limit tells it in place of a message: what people write begins otherwise.
_WAIT = re.compile(r"\x1f([A-Za-z0-9_.\-:]{1,128})\x1f(\d+)")
_UNITS = {"s": ("1s", "second"), "m": ("1m", "minute"), "h": ("1h", "hour"), "d": ("1d", "day")}


class LimitWait(msgspec.Struct, frozen=True):
    """That a stage waits for a limit, in its slot.

    Attributes:
        name: the limit's.
        until: from when on the stage may use it, milliseconds since 1970 by the server's clock; 0: once a place is given back.
    """

    name: str
    until: int = 0

    @property
    def message(self) -> str:
        """How it travels among the messages of stages."""
        return f"\x1f{self.name}\x1f{self.until}"

    @classmethod
    def told_by(cls, message: str) -> LimitWait | None:
        """What such a message says; None: it is another one."""
        found = _WAIT.fullmatch(message)
        return None if found is None else cls(found[1], int(found[2]))

    def sentence(self, now_ms: int | None = None) -> str:
        """For people; without the time of reading it is the same whenever it is read."""
        if not self.until:
            return f"waits for a free place of limit {self.name}"
        moment = f"{datetime.fromtimestamp(self.until / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
        if now_ms is None:
            return f"waits for limit {self.name} until {moment}"
        return f"waits {shown_duration(max(0, self.until - now_ms) / 1000)} for limit {self.name}, until {moment}"


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """So much of something in any period of this length.

    Attributes:
        what: what is counted: `requests`, `tokens`.
        amount: how much.
        period_ms: the length.
    """

    what: str
    amount: int
    period_ms: int

    def __str__(self) -> str:
        """For people: `100 requests a minute`."""
        named = {to_ms(text, "period"): word for text, word in _UNITS.values()}
        word = named.get(self.period_ms)
        period = f"{'an' if word == 'hour' else 'a'} {word}" if word else f"in {self.period_ms / 1000:g} s"
        return f"{self.amount:,} {self.what.removesuffix('s') if self.amount == 1 else self.what} {period}"


class LimitRule(msgspec.Struct, frozen=True, array_like=True):
    """What a limit allows; see scripts/limits.lua.

    Attributes:
        rates: how much of what in which time.
        concurrency: how many uses at once; 0: any number.
    """

    rates: tuple[Rate, ...] = ()
    concurrency: int = 0

    def __str__(self) -> str:
        """For people."""
        parts = [*map(str, self.rates), *([f"{self.concurrency:,} at once"] if self.concurrency else [])]
        return ", ".join(parts)

    @classmethod
    def checked(cls, name: str, rate: Mapping[str, str] | str | None, concurrency: int | None) -> LimitRule:
        """The rule as users write it, or InvalidValue."""
        rates = {REQUESTS: rate} if isinstance(rate, str) else {} if rate is None else rate
        if not isinstance(cast("object", rates), Mapping) or len(rates) > _RATES_MAX:
            raise InvalidValue("rate", rate, '"100/m", or a dict such as {"requests": "100/m", "tokens": "2000/m"}')
        if concurrency is not None and (type(concurrency) is not int or not 1 <= concurrency <= CONCURRENCY_MAX):
            raise InvalidValue("concurrency", concurrency, f"a whole number from 1 to {CONCURRENCY_MAX:,}")
        if not rates and concurrency is None:
            raise InvalidValue(f"limit {name!r}", "without a rate and a concurrency", "one of them, or both")
        if rates and name.startswith((OF_QUEUE, OF_TENANT)):
            raise InvalidValue(f"rate of {name!r}", rate, "a concurrency only: a limit of a queue or tenant has no rate")
        return cls(tuple(_rate(what, text) for what, text in sorted(rates.items())), concurrency or 0)


class LimitUse(msgspec.Struct, frozen=True, array_like=True):
    """What one use of a limit takes.

    Attributes:
        name: the limit's.
        amounts: (what, how much).
        key: whose share of the limit it is: each key is limited for itself; empty: the whole.
    """

    name: str
    amounts: tuple[tuple[str, int], ...] = ()
    key: str = ""

    @classmethod
    def checked(cls, name: str, key: str, amounts: Mapping[str, int]) -> LimitUse:
        """The use as users write it, or InvalidValue."""
        check_limit_name(name)
        if name.startswith((OF_QUEUE, OF_TENANT)):
            raise InvalidValue("limit", name, "one with another name: workers keep to limits of queues and tenants by themselves")
        for what, amount in amounts.items():
            if type(amount) is not int or not 0 <= amount <= AMOUNT_MAX:
                raise InvalidValue(f"{what} of limit {name!r}", amount, f"a whole number from 0 to {AMOUNT_MAX:,}")
        return cls(name, tuple(sorted(amounts.items())), checked_key(key) if key else "")


def check_limit_name(value: object) -> str:
    """Returns the name that a limit is set and used by, or raises InvalidValue: it may be that of no queue or tenant."""
    name = check_limit_text(value)
    for prefix in (OF_QUEUE, OF_TENANT):
        if not name.startswith(prefix) and name.lower().startswith(prefix):
            raise InvalidValue(
                "limit", value, f"{prefix!r} in small letters for the limit of a {prefix[:-1]}, or another beginning"
            )
        if name.startswith(prefix) and not is_name(name.removeprefix(prefix)):
            raise InvalidValue("limit", value, f"{prefix!r} and the name of a {prefix[:-1]}: {NAME_IS}")
    return name


def check_limit_text(value: object) -> str:
    """Returns what a limit may stand under, whether or not it limits anything, or raises InvalidValue."""
    if isinstance(value, str) and _LIMIT_NAME.fullmatch(value):
        return value
    for prefix in (OF_QUEUE, OF_TENANT):
        if isinstance(value, str) and value.startswith(prefix) and len(value) > _LIMIT_NAME_MAX:
            most = f"at most {_LIMIT_NAME_MAX - len(prefix)} characters after {prefix!r}"
            raise InvalidValue(
                "limit",
                value,
                f"{most}, which are {len(value) - len(prefix)} here: no {prefix[:-1]} with a longer name can be limited",
            )
    raise InvalidValue("limit", value, "1 to 128 letters, digits, '_', '-', '.' or ':', beginning with a letter or '_'")


def checked_key(value: object) -> str:
    """Returns the key of a use, or raises InvalidValue."""
    return check_flow_id(value, "key of a limit")


def _rate(what: object, text: object) -> Rate:
    if not isinstance(what, str) or not _WHAT.fullmatch(what):
        raise InvalidValue("what a rate counts", what, "a word such as 'requests' or 'tokens'")
    found = _RATE.fullmatch(text.replace(" ", "").replace("_", "")) if isinstance(text, str) else None
    if found is None or not 1 <= int(found[1]) <= AMOUNT_MAX:
        raise InvalidValue(f"rate of {what}", text, 'an amount and a period, such as "100/m", "5/s" or "2000/30s"')
    period = _UNITS.get(found[2], (found[2], ""))[0]
    return Rate(what, int(found[1]), to_ms(period, f"period of {what}", least_ms=_PERIOD_MS_MIN, most_ms=_PERIOD_MS_MAX))
