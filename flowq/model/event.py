"""Events: what followers of a flow see, one for every transition, numbered per flow without holes."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from flowq.model.snapshot import FlowSnapshot, Reason

Verb = Literal[
    "added", "released", "delayed", "promoted", "claimed", "progressed", "suspended", "resumed", "signalled", "completed",
    "failed", "retried", "skipped", "cancelled", "rescued", "pruned", "paused", "replaced", "held",
]  # fmt: skip

FLOW_VERBS_THAT_END: Final = frozenset({"completed", "failed", "cancelled"})


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened.

    Attributes:
        flow_id: the flow.
        seq: its number in the flow, from 1, without holes; 0 for `progressed` and `held`, which are not numbered because
            followers need only the latest.
        verb: what happened.
        at: when, by the server's clock: milliseconds since 1970.
        stage: the stage's name; None: it happened to the flow as a whole.
        attempt: the attempt it belongs to; 0: to none.
        progress: 0…1, for `progressed`.
        note: one line: the message of a progress, the cause of a failure, the worker of a claim, a cancel's reason; who paused;
            the flow whose end an `added` or `replaced` one waits for; what a suspended stage waits for; a signal's name;
            why a stage is held.
        due_at: for `retried`, `delayed` and `suspended`: when the stage may run; for `added` and `replaced`: when a flow that
            begins later does; milliseconds since 1970.
        reason: for `held`: why the stage does not run.
    """

    flow_id: str
    seq: int
    verb: Verb
    at: int
    stage: str | None = None
    attempt: int = 0
    progress: float | None = None
    note: str = ""
    due_at: int | None = None
    reason: Reason | None = None

    @property
    def ends_the_flow(self) -> bool:
        """Whether the flow is over with this event."""
        return self.stage is None and self.verb in FLOW_VERBS_THAT_END


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Events that can't be told any more, because the server's log of them was trimmed: a loss is never silent.

    Attributes:
        flow_id: the flow.
        after: the number of the last event that was told.
        before: the number of the next one that will be.
        snapshot: the flow as it stands now: what the missing events led to.
    """

    flow_id: str
    after: int
    before: int
    snapshot: FlowSnapshot
