"""The bytes in Redis as typed structs: what scripts/records.lua packs, Python reads here, and what Python packs for scripts."""

from __future__ import annotations

from typing import Any

import msgspec

from flowq.model.outcome import opaque
from flowq.model.plan import Binding, Plan, StagePlan

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


class HistoryEntry(msgspec.Struct, array_like=True):
    """One earlier run of a stage."""

    attempt: int
    outcome: str
    worker: str
    started_at: int
    ran: int
    cause: str


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
    """

    name: str
    queues: tuple[str, ...]
    stages: tuple[str, ...]
    routes: tuple[str, ...]
    concurrency: int
    is_alone: bool = False


class PlanHead(msgspec.Struct, array_like=True, frozen=True):
    """What a plan holds beside its blocks of stages."""

    pipeline: str
    stages: int
    output: tuple[Binding, ...]


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
