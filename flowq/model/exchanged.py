"""What a worker hears in an exchange with the store: which outcomes were refused, claims, what there is for duties. Pure data."""

from __future__ import annotations

import msgspec

from flowq.model.outcome import Claim


class House(msgspec.Struct, frozen=True):
    """What there is for the duties of workers in a partition.

    Attributes:
        limits: another one when limits were set or removed.
        late: how many leases ran out.
        closing: whether something is being closed.
        firings: how many firings of schedules are due.
    """

    limits: bytes
    late: int
    closing: int
    firings: int


class Verdict(msgspec.Struct, frozen=True):
    """Why an outcome was not applied.

    Attributes:
        position: which outcome of the batch.
        word: `replayed` (it had been applied before) · `late` (it was cancelled before, or the map of this item has
            ended) · `stale` (this run has no say in the stage any more) · `gone` · `corrupt`.
        holder: whose run it is that has taken the place of this one, for `stale`; empty: none has.
    """

    position: int
    word: str
    holder: str


class Exchanged(msgspec.Struct, frozen=True):
    """The answer to an exchange.

    Attributes:
        now: the server's time, milliseconds since 1970.
        next_due_at: when the next scheduled stage is due; 0: none, or not asked because there was work.
        verdicts: the outcomes that were not applied.
        claims: what to run.
        cancelled: the runs (see `Claim.run`) of stages that were cancelled.
        closing: what this call left to be finished: flows that fail at once or ran out of time, maps that have ended early.
        gated: (tenant, queue) of those that have a limit and of which more waits, whether permits are left or not.
        bound: queues of which something waits that the call's bounds left no room for.
        permitted: position of a claim → the tenant of which it used a permit.
        house: what there is for duties; None: that was not asked.
    """

    now: int
    next_due_at: int
    verdicts: list[Verdict]
    claims: list[Claim]
    cancelled: list[tuple[str, int, int, str]]
    closing: list[str]
    gated: list[tuple[str, str]] = []
    permitted: dict[int, str] = {}
    bound: list[str] = []
    house: House | None = None
