"""When a failed stage runs again: `Backoff`, and the pure decision from attempt to delay."""

from __future__ import annotations

import random

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms


class Backoff(msgspec.Struct, frozen=True, array_like=True):
    """How long to wait before each retry.

    The wait before retry `n` (1 for the first) is `base · factor^(n-1)`, at most `max`, then spread by full-range jitter:
    a random share of up to `jitter` is taken off, so that stages which failed together do not return together.

    Build it with `Backoff.exponential`, `Backoff.fixed` or `Backoff.none`. Lengths are milliseconds.
    """

    base_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 300_000
    jitter: float = 0.5

    @classmethod
    def exponential(cls, base: Duration = "1s", *, factor: float = 2.0, max: Duration = "5m", jitter: float = 0.5) -> Backoff:
        """1 s, 2 s, 4 s … by default, never more than 5 minutes, each shortened by up to half at random.

        Raises:
            InvalidValue: a length below 1 ms or above 366 days, a factor outside 1…10, a jitter outside 0…1.
        """
        if not 1 <= factor <= 10:
            raise InvalidValue("backoff factor", factor, "a number from 1 to 10")
        if not 0 <= jitter <= 1:
            raise InvalidValue("backoff jitter", jitter, "a share from 0 to 1")
        base_ms = to_ms(base, "backoff base", least_ms=1)
        return cls(base_ms, float(factor), max_ms=to_ms(max, "backoff max", least_ms=base_ms), jitter=float(jitter))

    @classmethod
    def fixed(cls, delay: Duration, *, jitter: float = 0.0) -> Backoff:
        """The same wait before every retry."""
        return cls.exponential(delay, factor=1.0, max=delay, jitter=jitter)

    @classmethod
    def none(cls) -> Backoff:
        """Retry at once."""
        return cls(0, 1.0, 0, 0.0)

    def delay_ms(self, retry: int, random_share: float | None = None) -> int:
        """The wait in milliseconds before retry `retry` (≥ 1). `random_share` in 0…1 fixes the dice, for tests."""
        # 2.0 ** 1100 overflows a float; 64 doublings pass any cap that to_ms allows.
        full = min(self.max_ms, self.base_ms * self.factor ** min(retry - 1, 64))
        share = random.random() if random_share is None else random_share
        return round(full * (1 - self.jitter * share))
