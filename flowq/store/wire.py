"""The bytes in Redis as typed structs: what scripts/records.lua packs, Python reads here, and what Python packs for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowq.model.outcome import Wait, opaque
from flowq.model.plan import Binding, Plan, StagePlan
from flowq.model.restart import Restart

# Above this many children a claim does not carry their results; the worker reads them in pages.
NEEDS_INLINE_MAX = 64


class Record(msgspec.Struct, array_like=True):
    """A stage's record. Times are milliseconds."""

    state: str
    attempt: int
    crashes: int
    fence: int
    nonce: str
    ready_at: int
    waited: int
    ran: int
    holder: str
    route: str
    priority: int
    needs: Any = False


class Head(msgspec.Struct, array_like=True):
    """A flow's head: the counters and times that scripts keep."""

    status: str
    seq: int
    unfinished: int
    active: int
    failures: int
    priority: int
    created_at: int
    started_at: int
    ended_at: int
    reason: str
    run: int = 1
    away: int = 0
    tenant: str = ""


class Remembered(msgspec.Struct, array_like=True):
    """What a stage that was suspended remembers; see scripts/suspend.lua.

    Attributes:
        waits: what it waited for when it was suspended last.
        timers: each timer it ever started and when it ends, by turns; 0: that end was seen.
        suspensions: how often it was suspended.
    """

    waits: list[Wait]
    timers: list[Any]
    suspensions: int = 0

    @property
    def ends(self) -> dict[str, int]:
        """Timer → when it ends, milliseconds since 1970; 0: that end was seen."""
        return dict(zip(self.timers[::2], self.timers[1::2], strict=True))


remembered_decoder = msgspec.msgpack.Decoder(Remembered)


class Link(msgspec.Struct, array_like=True, frozen=True):
    """Where a spawned flow comes from; see scripts/resume.lua.

    Attributes:
        stage: the index of its parent's stage.
        root_created_at: when the flow at the root of the tree was added: another one may have its id later.
        run, attempt: of the parent, when it last began this flow or retried it.
    """

    stage: int
    root_created_at: int
    run: int
    attempt: int


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What was said of a flow when it was added; never changes, never read by scripts."""

    pipeline: str
    stages: int
    inputs: bytes
    tenant: str = ""
    tags: tuple[str, ...] = ()


class Submission(msgspec.Struct, array_like=True, frozen=True):
    """One flow of a batch for the submit script; see its header."""

    flow_id: str
    fingerprint: msgspec.Raw
    plan: str
    header: msgspec.Raw
    priority: int
    stages: int
    active: int
    fields: list[Any]
    ranges: list[tuple[str, int, int, int]]
    staging: str | bool = False
    staged: int = 0
    tenant: str = ""


class HistoryEntry(msgspec.Struct, array_like=True):
    """One earlier run of a stage."""

    attempt: int
    outcome: str
    worker: str
    started_at: int
    ran: int
    cause: str


history_decoder = msgspec.msgpack.Decoder(list[HistoryEntry])


class AgainStage(msgspec.Struct, array_like=True, frozen=True):
    """A stage that runs again; see scripts/retry.lua.

    Attributes:
        index, route, priority, needs: as a release has them.
        is_ready: whether it may run now; else it waits for children that run again too.
        done: how many of its children it need not wait for.
    """

    index: int
    route: str
    priority: int
    needs: list[int] | bool
    is_ready: bool
    done: int


class Again(msgspec.Struct, array_like=True, frozen=True):
    """What `Store.retry` changes.

    Attributes:
        stages: those that run again.
        unfinished: how many stages then keep the flow from completing.
        failures: how many then still count as failed.
        literals: (index, `opaque` packed arguments) of stages that get other ones.
    """

    stages: list[AgainStage]
    unfinished: int
    failures: int
    literals: list[tuple[int, msgspec.Raw]] = []


class WireEvent(msgspec.Struct, array_like=True):
    """An event as scripts/emit.lua packs it; stage -1 is the flow."""

    flow_id: str
    seq: int
    verb: str
    stage: int
    at: int
    attempt: int
    note: str
    due_at: int
    progress: float


class HolderInfo(msgspec.Struct, array_like=True, frozen=True):
    """What a process says of itself when it registers.

    Attributes:
        name: shown to people.
        queues, stages, routes: what it serves.
        concurrency: how many stages at once.
        is_alone: whether it is a child for single stages, beside the processes that its worker was asked for.
        has: what its host has of what stages need.
    """

    name: str
    queues: tuple[str, ...]
    stages: tuple[str, ...]
    routes: tuple[str, ...]
    concurrency: int
    is_alone: bool = False
    has: dict[str, int] = {}


class PlanHead(msgspec.Struct, array_like=True, frozen=True):
    """What a plan holds beside its blocks of stages."""

    pipeline: str
    stages: int
    output: tuple[Binding, ...]
    fail_fast: bool = False


def needs_of(stage: StagePlan) -> list[int] | bool:
    """The children whose results a claim of this stage carries; False: too many."""
    wanted = sorted({binding.child for binding in stage.bindings})
    return wanted if len(wanted) <= NEEDS_INLINE_MAX else False


def releases_of(stage: StagePlan, stage_at: Any) -> msgspec.Raw:
    """The parents that this stage's completion may release, packed (`opaque`) for scripts/release.lua.

    Args:
        stage: the child.
        stage_at: index → StagePlan.
    """
    parents: list[tuple[int, str, int, int, list[int] | bool]] = []
    for index in stage.parents:
        parent: StagePlan = stage_at(index)
        parents.append((index, parent.route, parent.priority, len(parent.children), needs_of(parent)))
    return opaque(msgspec.msgpack.encode(parents))


def again_of(plan: Plan, restart: Restart, literals: Mapping[int, bytes] = {}) -> Again:
    """A restart as `Store.retry` takes it.

    Args:
        plan: the flow's.
        restart: what runs again.
        literals: stage index → its new packed arguments.
    """
    stages: list[AgainStage] = []
    for one in restart.stages:
        stage = plan.stages[one.index]
        stages.append(AgainStage(one.index, stage.route, stage.priority, needs_of(stage), one.is_ready, one.done))
    return Again(stages, restart.unfinished, restart.failures, [(index, opaque(data)) for index, data in literals.items()])


def bearers_of(index: int, stage: StagePlan, stage_at: Any) -> msgspec.Raw:
    """The parents that the stage's failure may release because they tolerate it, packed like `releases_of`."""
    bearing = tuple(parent for parent in stage.parents if index in stage_at(parent).tolerates)
    return releases_of(msgspec.structs.replace(stage, parents=bearing), stage_at)


def ranges_of(plan: Plan) -> list[tuple[str, int, int, int]]:
    """The stages that are ready from the start, neighbours of one route and priority as one range."""
    ranges: list[tuple[str, int, int, int]] = []
    for index in plan.roots():
        stage = plan.stages[index]
        if ranges and ranges[-1][0] == stage.route and ranges[-1][1] == stage.priority and ranges[-1][3] == index - 1:
            ranges[-1] = (*ranges[-1][:3], index)
        else:
            ranges.append((stage.route, stage.priority, index, index))
    return ranges
