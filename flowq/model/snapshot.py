"""Snapshots: a flow as it stands at one moment, for `inspect`, JSON, the dashboard and tests. Plain data, no behaviour
beyond questions about itself. Times are milliseconds since 1970 by the server's clock; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flowq.model.artifact import Artifact
from flowq.model.dedup import DedupSnapshot
from flowq.model.failure import Failure
from flowq.model.pause import Pause
from flowq.model.states import FINAL, FlowState, StageState

SCHEMA_VERSION = 1


class Reason(msgspec.Struct, frozen=True):
    """Why a stage is not running.

    Attributes:
        code: `children` · `child_failed` · `no_worker` · `busy` · `back_off` · `scheduled` · `paused` · `suspect` ·
            `flow_ended` · `items` · `at_once` · `queue_limit` · `tenant_limit` · `no_room` · `room_used` · `signal` · `sleep` ·
            `spawned` · `cache_pending` · `debounced` · `other_flow` · `rate_limited`: the only one of a stage that runs, and
            holds its slot.
        sentence: the same for people.
        on: what it waits for, or can't run without: names of stages, of a queue, of a limit, of signals, of what there is no
            room for, or ids of flows.
    """

    code: str
    sentence: str
    on: tuple[str, ...] = ()


class Reused(msgspec.Struct, frozen=True):
    """The stage whose result another one has: because it ran with the same inputs; or the stage itself, in an earlier run.

    Attributes:
        flow: its flow.
        stage: its name there.
    """

    flow: str
    stage: str


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


class ItemsSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The items of a map, folded.

    Attributes:
        count: how many there are.
        completed, running, failed: how many of them have completed, run now, have failed for good.
        waiting: how many others are ready or wait for another try; those of a map that has ended never run.
        need: how many must complete.
        at_once: how many may run at once; 0: as many as workers have room for.
        first_failed: the name of the one that failed first; empty: none has.
        listed: some of them: those that failed first and suspended ones, at most 10 of each, or those that were asked for.
        suspended: how many of the first 10,000, and of those listed, are suspended.
        beyond: how many of the others, which were not looked at, may be suspended, too; they count as waiting.
    """

    count: int
    completed: int
    running: int
    failed: int
    waiting: int
    need: int
    at_once: int
    first_failed: str = ""
    listed: tuple[StageSnapshot, ...] = ()
    suspended: int = 0
    beyond: int = 0


class StageSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A stage.

    Attributes:
        name: its name in the flow.
        stage: its function's name.
        queue: its queue.
        state: one of the nine states.
        attempt: the attempt it is in, or ended in; 0: it has not run.
        attempts: how many it may have.
        runs: how often it was started at all, crashes included; 0: it was not, or its result is `reused`.
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
        reason: why it is not running, or waits for a limit in its slot; None when it runs or is final.
        failure: why it failed, or why its latest attempt did.
        is_tolerated: whether it failed, and all who use its result tolerate that.
        result: what it returned, as plain data; of a map only how many items gave something; None until completed.
        artifacts: the artifacts it committed.
        history: earlier runs that did not complete it.
        is_critical: whether it lies on the critical path.
        version: which version of the function it needs; "": one without versions.
        usage: what it used up, by name, all attempts together.
        items: of a map that knows its list: its items.
        reused: whose result it has, if it was not run itself, or not since its flow was retried by hand.
        hook: of a hook, the name of the stage or item that it undoes, or `^`: it runs after every end.
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
    version: str = ""
    usage: dict[str, float] = {}
    items: ItemsSnapshot | None = None
    reused: Reused | None = None
    hook: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it can't change any more but by a retry."""
        return self.state in FINAL

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to do, not even by a retry: it completed or was skipped."""
        return self.state in ("completed", "skipped")


class HooksSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What runs after the end of a flow: a flow of its own.

    Attributes:
        id: that flow's id.
        state: its state; None: it was not added yet, because no worker has had the time.
        seq: the number of its last event.
        stages: the hooks in the order in which they run.
    """

    id: str
    state: FlowState | None = None
    seq: int = 0
    stages: tuple[StageSnapshot, ...] = ()


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


class FlowSnapshot(FlowSummary, frozen=True, kw_only=True):
    """A whole flow.

    Attributes:
        at: when the snapshot was taken.
        seq: the number of its latest event.
        started_at: when its first stage was claimed.
        inputs: the arguments the pipeline was called with, as plain data.
        priority: the flow's priority.
        progress: 0…1 over all stages, each weighing what it took in earlier flows of the pipeline; without such, all the same.
        eta_seconds: how long it will probably still take, waiting in queues left out; None: unknown.
        root_cause: the name of the stage that failed first, of those that keep the flow from completing.
        cancel_reason: why it was cancelled.
        run: 1 more than how often it was retried by hand.
        critical_path: names of the stages that decide how long it takes.
        result: what the pipeline returns, as plain data; None until completed, and if `result_items` is not 0.
        graph: the stages, children before parents.
        begins_at: when it begins, or began, if it was to begin later than it was added.
        deadline_at: when it must have ended.
        pause: since when it is paused, and by whom, if it is.
        fail_reason: why it failed as a whole, if not for a stage: `its deadline passed`.
        usage: what all stages used up together.
        parent: the id of the flow that spawned it, or, of hooks, whose end they follow; None: it stands alone.
        hooks: what runs, or ran, after its latest end; None: nothing.
        spawned: flows that its stages spawned, at most 200.
        dedup: under which key it was added, if it was.
        result_items: how many elements lists made by maps have in the result, if there are more than 100: it is not read then.
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
    begins_at: int | None = None
    deadline_at: int | None = None
    pause: Pause | None = None
    fail_reason: str = ""
    usage: dict[str, float] = {}
    parent: str | None = None
    hooks: HooksSnapshot | None = None
    spawned: tuple[FlowSummary, ...] = ()
    dedup: DedupSnapshot | None = None
    result_items: int = 0

    def stage(self, name: str) -> StageSnapshot:
        """The stage of this name, or the item, if it is listed. Raises KeyError."""
        for stage in self.graph:
            if stage.name == name:
                return stage
        for stage in self.graph:
            for item in stage.items.listed if stage.items is not None else ():
                if item.name == name:
                    return item
        raise KeyError(name)

    @property
    def is_final(self) -> bool:
        """Whether the flow has ended."""
        return self.state in FINAL

    def in_state(self, *states: StageState) -> Iterable[StageSnapshot]:
        """The stages in any of these states."""
        return (stage for stage in self.graph if stage.state in states)
