"""The bytes in Redis as typed structs: what scripts/records.lua packs, Python reads here, and what Python packs for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowq.model.keep import Keep
from flowq.model.outcome import opaque
from flowq.model.plan import Binding, Hook, Plan, StagePlan
from flowq.model.restart import Restart

# {(route, priority, first, last), …}: stages that are ready together.
Ranges = list[tuple[str, int, int, int]]

# Above this many children a claim does not carry their results; the worker reads them in pages.
NEEDS_INLINE_MAX = 64
# Scripts take priorities in steps of so much, lest there be fractions. Once its flow has begun a stage's has 1 more: it waits in
# another lane than flows that have not begun, served beside it (scripts/claim_turns.lua); or 2: it goes before these.
PRIORITY_STEP = 4


class Record(msgspec.Struct, array_like=True):
    """A stage's record. Times are milliseconds. A final one ends with its holder."""

    state: str
    attempt: int
    crashes: int
    fence: int
    nonce: str
    ready_at: int
    waited: int
    ran: int
    holder: str
    route: str = ""
    priority: int = 0
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
    deadline_at: int = 0
    away: int = 0
    tenant: str = ""
    dedup: str = ""


class Group(msgspec.Struct, array_like=True):
    """The items of a map: see scripts/groups.lua."""

    count: int
    handed_out: int
    done: int
    failed: int
    running: int
    need: int
    at_once: int
    opened_at: int
    first_failed: list[int]
    spared: int = 0


group_decoder = msgspec.msgpack.Decoder(Group)


class Header(msgspec.Struct, array_like=True, frozen=True):
    """What was said of a flow when it was added; never changes, never read by scripts.

    Attributes:
        inputs: the arguments of the pipeline; empty: they are in the field `in`, or else the literals of its first stage.
        is_fresh: it reuses no results.
    """

    pipeline: str
    stages: int
    inputs: bytes
    tenant: str = ""
    tags: tuple[str, ...] = ()
    is_fresh: bool = False
    # Key and mode, see `DedupSnapshot`.
    dedup: tuple[str, str] | None = None


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
    ranges: Ranges
    staging: str | bool = False
    staged: int = 0
    timing: tuple[Any, ...] | bool = False
    labels: tuple[str, ...] = ()
    keep: msgspec.Raw = opaque(b"")
    # See scripts/once.lua.
    once: tuple[str, str, int, int] | bool = False
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
    """A stage that runs again; see scripts/restart.lua.

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


class AgainMap(msgspec.Struct, array_like=True, frozen=True):
    """A map: items of these numbers run again, and unless it `is_alone` all that have not completed; see scripts/reopen.lua."""

    index: int
    route: str
    priority: int
    numbers: list[int]
    is_alone: bool = False


class Again(msgspec.Struct, array_like=True, frozen=True):
    """What `Store.retry` changes.

    Attributes:
        stages: those that run again.
        unfinished: how many stages then keep the flow from completing.
        failures: how many then still count as failed.
        literals: (index, `opaque` packed arguments) of stages that get other ones.
        maps: those that go on.
        deadline_ms, deadline_at: how long the flow then has, or until when; 0: not given.
        staging: the key that holds stages, literals and maps in parts, where they are many; and how many parts.
    """

    stages: list[AgainStage]
    unfinished: int
    failures: int
    literals: list[tuple[int, msgspec.Raw]] = []
    maps: list[AgainMap] = []
    deadline_ms: int = 0
    deadline_at: int = 0
    staging: str | bool = False
    parts: int = 1


class HolderInfo(msgspec.Struct, array_like=True, frozen=True):
    """What a process says of itself when it registers.

    Attributes:
        name: shown to people.
        queues, stages, routes: what it serves.
        concurrency: how many stages at once.
        is_alone: whether it is a child for single stages, beside the processes that its worker was asked for.
        pipelines: the pipelines whose schedules it fires.
        has, host, needs: what its host has of what stages need; which host it is; stage → what it takes of that.
    """

    name: str
    queues: tuple[str, ...]
    stages: tuple[str, ...]
    routes: tuple[str, ...]
    concurrency: int
    is_alone: bool = False
    pipelines: tuple[str, ...] = ()
    has: dict[str, int] = {}
    host: str = ""
    needs: dict[str, dict[str, int]] = {}


class PlanHead(msgspec.Struct, array_like=True, frozen=True):
    """What a plan holds beside its blocks of stages. `cache_ms`: how long a result of any of them may be kept for other flows."""

    pipeline: str
    stages: int
    output: tuple[Binding, ...]
    fail_fast: bool = False
    finish_first: bool = False
    keep: Keep | None = None
    cache_ms: int = 0
    finally_: Hook | None = None


def needs_of(stage: StagePlan) -> list[int] | bool:
    """The children whose results a claim of this stage carries; False: too many."""
    wanted: set[int] = set()
    for binding in stage.bindings:
        wanted.add(binding.child)
        if len(wanted) > NEEDS_INLINE_MAX:  # asked by each child of a wide parent, so it must not look at all of them
            return False
    return sorted(wanted)


def later_priority(stage: StagePlan, *, finish_first: bool) -> int:
    """A stage's priority, as scripts take it, in a flow that has begun."""
    return PRIORITY_STEP * stage.priority + (2 if finish_first else 1)


def releases_of(stage: StagePlan, stage_at: Any, *, finish_first: bool = False) -> msgspec.Raw:
    """The parents that this stage's completion may release, packed (`opaque`) for scripts/release.lua.

    Args:
        stage: the child.
        stage_at: index → StagePlan.
        finish_first: the plan's.
    """
    parents: list[tuple[int, str, int, int, list[int] | bool, int]] = []
    for index in stage.parents:
        parent: StagePlan = stage_at(index)
        priority = later_priority(parent, finish_first=finish_first)
        parents.append((index, parent.route, priority, len(parent.children), needs_of(parent), parent.delay_ms))
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
        priority = later_priority(stage, finish_first=plan.finish_first)
        stages.append(AgainStage(one.index, stage.route, priority, needs_of(stage), one.is_ready, one.done))
    maps: list[AgainMap] = []
    for index, numbers in restart.maps:
        stage = plan.stages[index]
        priority = later_priority(stage, finish_first=plan.finish_first)
        maps.append(AgainMap(index, stage.route, priority, numbers, index in restart.alone))
    return Again(stages, restart.unfinished, restart.failures, [(index, opaque(data)) for index, data in literals.items()], maps)


def bearers_of(index: int, stage: StagePlan, stage_at: Any, *, finish_first: bool = False) -> msgspec.Raw:
    """The parents that the stage's failure may release because they tolerate it, packed like `releases_of`."""
    bearing = tuple(parent for parent in stage.parents if index in stage_at(parent).tolerates)
    return releases_of(msgspec.structs.replace(stage, parents=bearing), stage_at, finish_first=finish_first)


def ranges_of(plan: Plan, delay_ms: int = 0) -> Ranges:
    """The stages that are ready so long after the start, neighbours of one route and priority as one range."""
    ranges: Ranges = []
    for index in plan.roots():
        stage = plan.stages[index]
        if stage.delay_ms != delay_ms:
            continue
        priority = PRIORITY_STEP * stage.priority
        if ranges and ranges[-1][:2] == (stage.route, priority) and ranges[-1][3] == index - 1:
            ranges[-1] = (*ranges[-1][:3], index)
        else:
            ranges.append((stage.route, priority, index, index))
    return ranges


def later_ranges_of(plan: Plan) -> list[tuple[int, Ranges]]:
    """The stages that wait for a time but for no child: by how long after the start they are ready."""
    delays = {plan.stages[index].delay_ms for index in plan.roots()} - {0}
    return [(delay_ms, ranges_of(plan, delay_ms)) for delay_ms in sorted(delays)]
