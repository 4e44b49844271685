"""Claims and outcomes: what a worker takes from the store, and what it reports back. Pure data.

Each outcome is packed as an array `[verb, flow, index, fence, nonce, …]`, the order in which scripts/outcomes.lua reads it.
"""

from __future__ import annotations

import msgspec


def opaque(data: bytes) -> msgspec.Raw:
    """Bytes as they go into an outcome: as msgpack text, because the server's decoder knows no msgpack binary type."""
    size = len(data)
    if size < 32:
        return msgspec.Raw(bytes((0xA0 | size,)) + data)
    if size < 256:
        return msgspec.Raw(bytes((0xD9, size)) + data)
    if size < 65_536:
        return msgspec.Raw(b"\xda" + size.to_bytes(2, "big") + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


class Token(msgspec.Struct, frozen=True, array_like=True):
    """The right to report on one run of a stage. Both parts must match.

    A number alone is no fence: after a server lost the tail of its log, the same number is given out again.
    """

    fence: int
    nonce: str

    def __str__(self) -> str:
        return f"{self.fence}-{self.nonce}"


class Claim(msgspec.Struct):
    """A stage that this process shall run.

    Attributes:
        flow_id: the flow.
        index: the stage's index in the plan.
        plan: the plan's digest.
        token: the right to report on this run.
        attempt: which attempt this is, from 1.
        crashes: how often it crashed its process.
        priority: the flow's priority.
        created_at: when the flow was added, milliseconds since 1970.
        literals: its literal arguments, packed; empty: none.
        results: child index → its packed result; None: too large to come with the claim, read them in pages.
        route: where it was claimed: `queue:stage`, with "!" behind it for a suspect.
        deadline_in_ms: how long before the flow's deadline it was claimed; None: it has none.
        opened_at: of an item: when its map was opened, which tells one opening from another.
        suspensions: how often it was suspended, or only looked at what is known, if its run has asked.
    """

    flow_id: str
    index: int
    plan: str
    token: Token
    attempt: int
    crashes: int
    priority: int
    created_at: int
    literals: bytes
    results: dict[int, bytes] | None
    route: str
    deadline_in_ms: int | None = None
    opened_at: int = 0
    suspensions: int = 0

    @property
    def run(self) -> tuple[str, int, int, str]:
        """The flow, the stage's index and the token, as outcomes begin with them."""
        return self.flow_id, self.index, self.token.fence, self.token.nonce

    @property
    def queue(self) -> str:
        """The queue it was claimed from."""
        return self.route.split(":", 1)[0]

    @property
    def is_suspect(self) -> bool:
        """Whether its process died under an earlier run, so that it must run alone."""
        return self.route.endswith("!")


class Complete(msgspec.Struct, frozen=True, array_like=True, tag="complete"):
    """The stage returned. `result` and `artifacts` are `opaque`; `parents` is packed once per plan: see `StoredPlan.releases`."""

    flow_id: str
    index: int
    fence: int
    nonce: str
    result: msgspec.Raw
    artifacts: msgspec.Raw
    parents: msgspec.Raw


class CompleteItem(Complete, frozen=True, array_like=True, tag="complete"):
    """The same of an item. Its map may have failed with that, if it was the last: `tolerant` and `is_tolerated` as in `Fail`."""

    tolerant: msgspec.Raw = opaque(b"\x90")
    is_tolerated: bool = False


class Reuse(CompleteItem, frozen=True, array_like=True, tag="reuse"):
    """The stage was not run: it has the result of another one that ran with the same inputs, of this flow or an earlier one."""

    other_flow: str = ""
    other_stage: str = ""


class Delay(msgspec.Struct, frozen=True, array_like=True, tag="delay"):
    """The stage was not run: another one computes the same now. It comes again after `delay_ms`, or is hastened."""

    flow_id: str
    index: int
    fence: int
    nonce: str
    delay_ms: int
    other_flow: str
    other_stage: str


class Expand(msgspec.Struct, frozen=True, array_like=True, tag="expand"):
    """The stage is a map that knows its list, whose items were written before.

    Attributes:
        count: how many items.
        need: how many of them must complete.
        at_once: how many may run at once; 0: all.
        priority: theirs, to which the flow's is added.
    """

    flow_id: str
    index: int
    fence: int
    nonce: str
    count: int
    need: int
    at_once: int
    priority: int = 0


class Skip(Complete, frozen=True, array_like=True, tag="skip"):
    """The stage's condition did not hold; its result is nil."""


class Retry(msgspec.Struct, frozen=True, array_like=True, tag="retry"):
    """The attempt failed and another one will be made after `delay_ms`. `failure` is an `opaque` packed Failure."""

    flow_id: str
    index: int
    fence: int
    nonce: str
    failure: msgspec.Raw
    cause: str
    delay_ms: int
    keeps_attempt: bool = False


class Fail(msgspec.Struct, frozen=True, array_like=True, tag="fail"):
    """The stage failed for good.

    Attributes:
        failure: an `opaque` packed Failure.
        result: what those who tolerate the failure get in its place, `opaque`; empty: nobody does.
        tolerant: they, packed: see `StoredPlan.tolerant`.
        is_tolerated: whether all do who would use the result, so that the flow may still complete.
        closes: how many stages the flow has, if it fails at once with this one; 0: it goes on.
    """

    flow_id: str
    index: int
    fence: int
    nonce: str
    failure: msgspec.Raw
    cause: str
    result: msgspec.Raw = opaque(b"")
    tolerant: msgspec.Raw = opaque(b"\x90")
    is_tolerated: bool = False
    closes: int = 0


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """The stage is given back unfinished; it costs no attempt."""

    flow_id: str
    index: int
    fence: int
    nonce: str


class Wait(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a suspended stage waits for.

    Attributes:
        kind: `sleep`, `signal` or `flow`.
        name: the signal's name, or the flow's id.
        timer: the name of the timer that ends the wait; "": none does.
        delay_ms: how long that timer runs, if it has not begun yet.
        refused: why the value that was sent last is none it can take.
    """

    kind: str
    name: str = ""
    timer: str = ""
    delay_ms: int = 0
    refused: str = ""


class Suspend(msgspec.Struct, frozen=True, array_like=True, tag="suspend"):
    """The stage waits and gives its slot back; it costs no attempt.

    Attributes:
        waits: for what.
        seen: timers whose end it has seen.
    """

    flow_id: str
    index: int
    fence: int
    nonce: str
    waits: tuple[Wait, ...]
    seen: tuple[str, ...] = ()


Outcome = Complete | Skip | Expand | Retry | Fail | Release | Suspend | Delay


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """How far a running stage is: `fraction` in 0…1."""

    flow_id: str
    index: int
    fence: int
    nonce: str
    fraction: float
    message: str


class Note(msgspec.Struct, frozen=True, array_like=True):
    """What a run logged and used, beside its outcome or before it; see scripts/notes.lua.

    Attributes:
        position: of its outcome in the batch, from 1; 0: there is none yet.
        log: all that this run has to tell, `opaque`.
        amounts: name, number, …; False: none.
        whose: `pipeline|tenant`.
    """

    flow_id: str
    index: int
    fence: int
    nonce: str
    position: int = 0
    log: msgspec.Raw = opaque(b"")
    amounts: tuple[str | float, ...] | bool = False
    whose: str = "|"
