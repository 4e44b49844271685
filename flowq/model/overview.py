"""What lists show: a line for each flow, and for each process that claims stages. Plain data."""

from __future__ import annotations

import msgspec

from flowq.model.states import FlowState


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `flowq list`.

    Attributes:
        id: the flow's id.
        pipeline: the pipeline's name.
        state: the flow's state.
        created_at: when it was added.
        ended_at: when it ended; None: it has not.
        stages: how many it has.
        finished: how many of them completed, were skipped or failed.
        failed: how many of them failed and keep the flow from completing; others are tolerated.
        tenant: whose it is.
        tags: its tags.
        cause: of a failed flow: `ErrorType: first line` of the stage that failed first, of those that keep it from completing.
    """

    id: str
    pipeline: str
    state: FlowState
    created_at: int
    ended_at: int | None = None
    stages: int = 0
    finished: int = 0
    failed: int = 0
    tenant: str = ""
    tags: tuple[str, ...] = ()
    cause: str = ""

    @property
    def done(self) -> int:
        """How many stages need no retry: those that completed or were skipped."""
        return self.finished - self.failed


class WorkerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A live process that claims stages.

    Attributes:
        id: its holder id.
        name: the worker's name: host, process, child.
        queues: the queues it serves.
        stages: the stages it knows, such as `encode`, or `encode@2` where they have a version.
        running: how many stages it holds.
        lease_seconds: how long its lease still lasts.
        is_alone: whether it is a child for single stages, beside the processes that its worker was asked for.
        pipelines: the pipelines whose schedules it fires.
        has: what its host has of what stages need.
        concurrency: how many stages it runs at once.
        since: when it announced itself, milliseconds since 1970; None: not known.
    """

    id: str
    name: str
    queues: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    running: int = 0
    lease_seconds: float = 0.0
    is_alone: bool = False
    pipelines: tuple[str, ...] = ()
    has: dict[str, int] = {}
    concurrency: int = 0
    since: int | None = None
