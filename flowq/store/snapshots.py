"""Reads one flow whole and makes the snapshot that `inspect`, the command line and tests look at."""

from __future__ import annotations

from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowNotFound
from flowq.model.artifact import Artifact
from flowq.model.failure import FAILURE_CODE, Failure, StageFailure
from flowq.model.graph import critical_path
from flowq.model.names import parent_id
from flowq.model.outcome import Wait
from flowq.model.plan import Plan, StagePlan
from flowq.model.reasons import reason_for
from flowq.model.snapshot import AttemptSnapshot, FlowSnapshot, StageSnapshot, WorkerSnapshot
from flowq.model.states import STATE_LETTER, StageState
from flowq.model.values import SPILLED_CODE, fill
from flowq.store.full_limits import full_limits
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import FLOW_STATES, Views, head_decoder, header_decoder, record_decoder, state_of
from flowq.store.wire import Head, Record, Remembered, history_decoder, remembered_decoder

# Larger flows are read in pages, so that no command holds the server up.
_WHOLE_STAGES_MAX = 500
_PAGE_STAGES = 250
_OF_STAGE = ("", "r", "e", "h", "g", "a", "z")

_artifacts = msgspec.msgpack.Decoder(tuple[Artifact, ...])
_failure = msgspec.msgpack.Decoder(Failure)


def _reference(code: int, data: memoryview) -> Any:
    """A result that was spilled is shown as the artifact that holds it: a snapshot reads no storage."""
    if code == FAILURE_CODE:
        return msgspec.msgpack.decode(data, type=StageFailure)
    return msgspec.msgpack.decode(data) if code == SPILLED_CODE else f"extension {code}"


_unpack = msgspec.msgpack.Decoder(ext_hook=_reference).decode


class Snapshots:
    """Makes snapshots of flows."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views

    async def snapshot(self, flow_id: str) -> FlowSnapshot:
        """The flow as it stands.

        Raises:
            FlowNotFound: there is none of this id.
            CorruptState: a part of it can't be read.
        """
        key = self._store.keys.flow(flow_id)
        head_data, header_data, digest, link = await self._store.connection.command("HMGET", key, "m", "o", "p", "^")
        if head_data is None or header_data is None or digest is None:
            raise FlowNotFound(flow_id)
        plan = await (await self._store.plan(flow_id, digest.decode())).whole()
        fields = await self._fields(key, len(plan.stages))
        workers = await self._views.workers()
        now = await self._views.now()
        try:
            fields.setdefault("m", head_data)
            head = head_decoder.decode(fields["m"])
            header = header_decoder.decode(header_data)
            assembled = _Assembled(flow_id, plan, head, fields, workers, now)
            assembled.full = await full_limits(self._store, assembled.waiting_queues, header.tenant)
            snapshot = assembled.snapshot(header.pipeline, header.inputs, header.tenant, header.tags)
            beneath = await Suspensions(self._store).beneath(flow_id, head, link)
            spawned = tuple(await self._views.summaries(beneath))
            return msgspec.structs.replace(snapshot, parent=parent_id(flow_id), spawned=spawned)
        except (msgspec.DecodeError, LookupError, TypeError) as error:  # bytes that are no msgpack, or are no record of ours
            raise CorruptState(flow_id, key, f"{type(error).__name__}: {error}") from None

    async def _fields(self, key: str, stages: int) -> dict[str, bytes]:
        command = self._store.connection.command
        if stages <= _WHOLE_STAGES_MAX:
            found: dict[bytes, bytes] = await command("HGETALL", key)
            return {name.decode(): value for name, value in found.items()}
        fields: dict[str, bytes] = {}
        for start in range(0, stages, _PAGE_STAGES):
            names = [f"{kind}{index}" for index in range(start, min(start + _PAGE_STAGES, stages)) for kind in _OF_STAGE]
            values = await command("HMGET", key, *names)
            fields |= {name: value for name, value in zip(names, values, strict=True) if value is not None}
        out = await command("HGET", key, "out")
        return fields | ({"out": out} if out is not None else {})


class _Assembled:
    """One reading of a flow, put together."""

    def __init__(
        self, flow_id: str, plan: Plan, head: Head, fields: dict[str, bytes], workers: list[WorkerSnapshot], now: int
    ) -> None:
        self._flow_id = flow_id
        self._plan = plan
        self._head = head
        self._fields = fields
        self._workers = workers
        self._worker_names = {worker.id: worker.name for worker in workers}
        self._now = now
        self._records: list[Record | None] = [
            record_decoder.decode(data) if (data := fields.get(str(index))) is not None else None
            for index in range(len(plan.stages))
        ]
        self._states = self._all_states()
        self.full: dict[str, str] = {}

    @property
    def waiting_queues(self) -> set[str]:
        return {stage.queue for stage, state in zip(self._plan.stages, self._states, strict=True) if state == "ready"}

    def snapshot(self, pipeline: str, inputs: bytes, tenant: str, tags: tuple[str, ...]) -> FlowSnapshot:
        head = self._head
        graph = tuple(self._stage(index) for index in range(len(self._plan.stages)))
        path = critical_path([stage.children for stage in self._plan.stages], lambda index: _seconds_of(graph[index], self._now))
        names = tuple(self._plan.stages[index].name for index in path) if any(stage.run_seconds for stage in graph) else ()
        on_path = frozenset(names)
        state = state_of(head)
        failed = [stage for stage in graph if stage.state == "failed" and not stage.is_tolerated]
        return FlowSnapshot(
            id=self._flow_id,
            pipeline=pipeline,
            state=state,
            created_at=head.created_at,
            ended_at=head.ended_at or None,
            stages=len(graph),
            finished=sum(stage.is_final and stage.state != "cancelled" for stage in graph),
            failed=len(failed),
            tenant=tenant,
            tags=tags,
            at=self._now,
            seq=head.seq,
            started_at=head.started_at or None,
            inputs=_unpack(inputs) if inputs else None,
            priority=head.priority,
            progress=sum(stage.progress or 0.0 for stage in graph) / len(graph),
            eta_seconds=None if state not in ("running",) else _eta(graph),
            root_cause=min(failed, key=lambda stage: stage.ended_at or 0).name if failed else None,
            cancel_reason=head.reason,
            run=head.run,
            critical_path=names,
            result=self._result() if state == "completed" else None,
            graph=tuple(msgspec.structs.replace(stage, is_critical=True) if stage.name in on_path else stage for stage in graph),
        )

    def _all_states(self) -> list[StageState]:
        states: list[StageState] = []
        for stage, record in zip(self._plan.stages, self._records, strict=True):
            if record is not None:
                states.append(STATE_LETTER[record.state])
            else:
                states.append("blocked" if stage.children else "ready")
        return states

    def _stage(self, index: int) -> StageSnapshot:
        plan, record, state = self._plan.stages[index], self._records[index], self._states[index]
        children = tuple(self._plan.stages[child].name for child in plan.children)
        failure = _failure.decode(data) if (data := self._fields.get(f"e{index}")) else None
        fraction, message = _unpack(data) if (data := self._fields.get(f"g{index}")) else (None, "")
        stage = StageSnapshot(
            name=plan.name,
            stage=plan.stage,
            queue=plan.queue,
            state=state,
            attempts=plan.attempts,
            children=children,
            failure=failure,
            is_tolerated=state == "failed" and self._plan.is_tolerated(index),
            progress=1.0 if state in ("completed", "skipped") else fraction,
            message=message,
            ready_at=self._head.created_at if state == "ready" else None,
            result=_unpack(data) if state == "completed" and (data := self._fields.get(f"r{index}")) else None,
            artifacts=_artifacts.decode(data) if (data := self._fields.get(f"a{index}")) else (),
            history=self._history(index),
        )
        if record is not None:
            stage = self._with_times(stage, record)
        waited_for = [child for child in plan.children if not self._is_done_for(child, plan)]
        states = {self._plan.stages[child].name: self._states[child] for child in waited_for}
        is_suspect = record is not None and record.route.endswith("!")
        flow_state = FLOW_STATES[self._head.status]
        reason = reason_for(
            stage,
            states,
            self._workers,
            flow_state,
            self._now,
            is_suspect=is_suspect,
            full=self.full,
            tenant=self._head.tenant,
            needs=plan.needs,
            waits=self._waits(index) if state == "suspended" else (),
        )
        return msgspec.structs.replace(stage, reason=reason)

    def _waits(self, index: int) -> tuple[tuple[Wait, int | None], ...]:
        data = self._fields.get(f"z{index}")
        known = remembered_decoder.decode(data) if data else Remembered([], [])
        return tuple((wait, known.ends.get(wait.timer) or None) for wait in known.waits)

    def _is_done_for(self, child: int, parent: StagePlan) -> bool:
        state = self._states[child]
        return state in ("completed", "skipped") or (state == "failed" and child in parent.tolerates)

    def _with_times(self, stage: StageSnapshot, record: Record) -> StageSnapshot:
        has_begun = record.state not in ("r", "s") and bool(record.holder)
        started_at = record.ready_at + record.waited if has_begun else None
        ran = self._now - started_at if record.state == "x" and started_at is not None else record.ran
        return msgspec.structs.replace(
            stage,
            attempt=record.attempt,
            runs=max(record.fence, len(stage.history) + (record.state in ("x", "c", "-"))),
            crashes=record.crashes,
            worker=self._worker_names.get(record.holder, record.holder.rsplit(".", 1)[0]),
            ready_at=record.ready_at,
            started_at=started_at,
            ended_at=started_at + record.ran if stage.is_final and started_at is not None else None,
            wait_seconds=record.waited / 1000 if has_begun else None,
            run_seconds=ran / 1000 if has_begun else None,
        )

    def _history(self, index: int) -> tuple[AttemptSnapshot, ...]:
        data = self._fields.get(f"h{index}")
        if not data:
            return ()
        return tuple(
            AttemptSnapshot(
                entry.attempt,
                entry.outcome,
                self._worker_names.get(entry.worker, entry.worker.rsplit(".", 1)[0]),
                entry.started_at,
                entry.ran / 1000,
                entry.cause,
            )
            for entry in history_decoder.decode(data)
        )

    def _result(self) -> Any:
        literal = _unpack(self._fields["out"]) if "out" in self._fields else None
        wanted = {binding.child for binding in self._plan.output}
        try:
            return fill(literal, self._plan.output, {child: _unpack(self._fields[f"r{child}"]) for child in wanted})
        except CorruptState:  # the part that the result takes lies in a spilled value
            return None


def _seconds_of(stage: StageSnapshot, now: int) -> float:
    """From its first start to its end, attempts that failed and the waits between them included."""
    if stage.started_at is None:
        return 0.0
    began_at = stage.history[0].started_at if stage.history else stage.started_at
    return ((stage.ended_at or now) - began_at) / 1000


def _eta(graph: tuple[StageSnapshot, ...]) -> float | None:
    """How long the running stages will still take by their own progress; None if none has told any."""
    ends = [
        stage.run_seconds * (1 - stage.progress) / stage.progress
        for stage in graph
        if stage.state == "running" and stage.run_seconds and stage.progress and stage.progress > 0.02
    ]
    return max(ends) if ends else None
