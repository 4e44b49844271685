"""What a history is made of. Choices are numbers, taken modulo what there is to choose from: every history can be played."""

from __future__ import annotations

from typing import Literal

import msgspec

from flowq.model.plan import Plan

# It returns; its condition does not hold; it raises; for good; "come back later", at no attempt; it is given back. Or it waits:
# for the flows that it spawned; for a time; for a signal; for one, but not for ever; for another one than that which came.
Ending = Literal["complete", "skip", "error", "fatal", "later", "release", "await", "sleep", "ask", "ask briefly", "ask again"]
WAITING: tuple[Ending, ...] = ("await", "sleep", "ask", "ask briefly", "ask again")


class Add(msgspec.Struct, frozen=True):
    """Adds a flow, or adds it again; or (`is_anew`) it takes the place of the one of this id, which is cancelled and removed."""

    flow: int
    plan: int
    inputs: int = 0
    priority: int = 0
    begins_later: bool = False
    has_deadline: bool = False
    is_anew: bool = False


class Work(msgspec.Struct, frozen=True):
    """One exchange of a process: it reports some of the stages it runs, and claims.

    Attributes:
        actor, partition: who, with which.
        reports: which of its stages, and how they ended; none: all have completed.
        capacity: how many it has room for.
        without: which route it does not serve; 0: it serves all.
        is_repeated: whether the answer is lost, so that it asks again.
    """

    actor: int
    partition: int = 0
    reports: tuple[tuple[int, Ending], ...] = ()
    capacity: int = 0
    without: int = 0
    is_repeated: bool = False


class Late(msgspec.Struct, frozen=True):
    """Somebody reports a run that another has long taken over, or that has ended."""

    run: int
    ending: Ending


class Crash(msgspec.Struct, frozen=True):
    """A process is gone: it was killed, it lost its lease, or it was stopped."""

    actor: int
    how: Literal["killed", "lost", "stopped"]


class Due(msgspec.Struct, frozen=True):
    """The time of something has come."""

    what: int


class Spawn(msgspec.Struct, frozen=True):
    """A run spawns a flow, or finds it again, as `context().spawn` does.

    Attributes:
        actor, run: who, in which of its runs.
        key: which of the flows that this stage may spawn.
        plan, inputs: of the flow.
        then: what it waits for, at least for that flow; None: it goes on, and may end without it.
    """

    actor: int
    run: int
    key: int = 0
    plan: int = 2
    inputs: int = 0
    then: Literal["await", "sleep", "ask", "ask briefly"] | None = "await"


class Signal(msgspec.Struct, frozen=True):
    """Somebody hands a value to whoever of a flow waits for it."""

    flow: int
    value: int = 0


class Steer(msgspec.Struct, frozen=True):
    """Somebody cancels, pauses, resumes or prunes a flow, or cancels and prunes it at once (`drop`).

    Or what outlived its root is removed (`fell`).
    """

    verb: Literal["cancel", "pause", "resume", "prune", "drop", "fell"]
    flow: int


class Hold(msgspec.Struct, frozen=True):
    """Somebody pauses or resumes a queue or a pipeline."""

    what: int
    is_resumed: bool = False


class Retry(msgspec.Struct, frozen=True):
    """Somebody retries an ended flow: what failed or was cancelled, and (`above` 0) a stage or an item."""

    flow: int
    above: int = 0


class Close(msgspec.Struct, frozen=True):
    """The duty that finishes what is being closed has a look: at one thing, or (`what` 0) at all."""

    what: int = 0


Operation = Add | Work | Late | Crash | Due | Spawn | Signal | Steer | Hold | Retry | Close


class History(msgspec.Struct, frozen=True):
    """What happens to a namespace.

    Attributes:
        partitions: how many it has.
        plans: of the flows; the last is that of most flows beneath others.
        operations: one after the other.
    """

    partitions: int
    plans: tuple[Plan, ...]
    operations: tuple[Operation, ...]
