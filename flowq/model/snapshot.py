"""Snapshots: a flow as it stands at one moment, for `inspect`, JSON, the dashboard and tests. Plain data, no behaviour
beyond questions about itself. Times are milliseconds since 1970 by the server's clock; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flowq.model.artifact import Artifact
from flowq.model.failure import Failure
from flowq.model.states import FINAL, FlowState, StageState

SCHEMA_VERSION = 1


class Reason(msgspec.Struct, frozen=True):
    """Why a stage is not running.

    Attributes:
        code: `children` · `no_worker` · `busy` · `back_off` · `suspect` · `flow_ended` · `queue_limit` ·
            `tenant_limit` · `no_room` · `signal` · `sleep` · `spawned`.
        sentence: the same for people.
        on: what it waits for: names of stages, of a queue, of a limit, of signals, of what there is no room for, or ids of flows.
    """

    code: str
    sentence: str
    on: tuple[str, ...] = ()


class AttemptSnapshot(msgspec.Struct, frozen=True):
    """One finished run of a stage that did not complete it.

    Attributes:
        attempt: its number.
        outcome: `failed` · `retried` · `rescued` · `released` · `suspended`: for the first time.
        worker: who ran it.
        started_at: when it was claimed.
        seconds: how long it ran.
        cause: one line.
    """

    attempt: int
    outcome: str
    worker: str
    started_at: int
    seconds: float
    cause: str


class StageSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A stage.

    Attributes:
        name: its name in the flow.
        stage: its function's name.
        queue: its queue.
        state: one of the nine states.
        attempt: the attempt it is in, or ended in; 0: it has not run.
        attempts: how many it may have.
        runs: how often it was started at all, crashes included.
        crashes: how often its process died while only this stage ran in it.
        worker: who runs it, or ran it last.
        ready_at: when it was last ready, or (scheduled) will be.
        started_at: when its latest attempt began.
        ended_at: when it reached a final state.
        wait_seconds: how long the latest attempt waited in the queue.
        run_seconds: how long the latest attempt has run, or ran.
        progress: 0…1, or None if it reported none.
        message: the latest progress message.
        children: names of the stages it waits for.
        reason: why it is not running; None when it runs or is final.
        failure: why it failed, or why its latest attempt did.
        is_tolerated: whether it failed, and all who use its result tolerate that.
        result: what it returned, as plain data; None until completed.
        artifacts: the artifacts it committed.
        history: earlier runs that did not complete it.
        is_critical: whether it lies on the critical path.
    """

    name: str
    stage: str
    queue: str
    state: StageState
    attempt: int = 0
    attempts: int = 1
    runs: int = 0
    crashes: int = 0
    worker: str = ""
    ready_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    wait_seconds: float | None = None
    run_seconds: float | None = None
    progress: float | None = None
    message: str = ""
    children: tuple[str, ...] = ()
    reason: Reason | None = None
    failure: Failure | None = None
    is_tolerated: bool = False
    result: Any = None
    artifacts: tuple[Artifact, ...] = ()
    history: tuple[AttemptSnapshot, ...] = ()
    is_critical: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it can't change any more but by a retry."""
        return self.state in FINAL

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to do, not even by a retry: it completed or was skipped."""
        return self.state in ("completed", "skipped")


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

    @property
    def done(self) -> int:
        """How many stages need no retry: those that completed or were skipped."""
        return self.finished - self.failed


class FlowSnapshot(FlowSummary, frozen=True, kw_only=True):
    """A whole flow.

    Attributes:
        at: when the snapshot was taken.
        seq: the number of its latest event.
        started_at: when its first stage was claimed.
        inputs: the arguments the pipeline was called with, as plain data.
        priority: the flow's priority.
        progress: 0…1 over all stages, each weighing the same.
        eta_seconds: how long it will probably still take; None: unknown.
        root_cause: the name of the stage that failed first, of those that keep the flow from completing.
        cancel_reason: why it was cancelled.
        run: 1 more than how often it was retried by hand.
        critical_path: names of the stages that decide how long it takes.
        result: what the pipeline returns, as plain data; None until completed.
        graph: the stages, children before parents.
        parent: the id of the flow that spawned it; None: none did.
        spawned: flows that its stages spawned, at most 200.
    """

    at: int
    seq: int = 0
    started_at: int | None = None
    inputs: Any = None
    priority: int = 0
    progress: float = 0.0
    eta_seconds: float | None = None
    root_cause: str | None = None
    cancel_reason: str = ""
    run: int = 1
    critical_path: tuple[str, ...] = ()
    result: Any = None
    graph: tuple[StageSnapshot, ...] = ()
    parent: str | None = None
    spawned: tuple[FlowSummary, ...] = ()

    def stage(self, name: str) -> StageSnapshot:
        """The stage of this name. Raises KeyError."""
        for stage in self.graph:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def is_final(self) -> bool:
        """Whether the flow has ended."""
        return self.state in FINAL

    def in_state(self, *states: StageState) -> Iterable[StageSnapshot]:
        """The stages in any of these states."""
        return (stage for stage in self.graph if stage.state in states)


class WorkerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A live process that claims stages.

    Attributes:
        id: its holder id.
        name: the worker's name: host, process, child.
        queues: the queues it serves.
        stages: the stages it knows.
        running: how many stages it holds.
        lease_seconds: how long its lease still lasts.
        is_alone: whether it is a child for single stages, beside the processes that its worker was asked for.
        has: what its host has of what stages need.
    """

    id: str
    name: str
    queues: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    running: int = 0
    lease_seconds: float = 0.0
    is_alone: bool = False
    has: dict[str, int] = {}
