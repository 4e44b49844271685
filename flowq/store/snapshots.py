"""Reads one flow whole and makes the snapshot that `inspect`, the command line and tests look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowNotFound
from flowq.model.artifact import Artifact
from flowq.model.dedup import DedupSnapshot
from flowq.model.failure import FAILURE_CODE, Failure, StageFailure
from flowq.model.graph import critical_path
from flowq.model.items import ITEMS, LIST, is_item, stage_of
from flowq.model.names import worker_of
from flowq.model.pause import Pause
from flowq.model.plan import Plan, StagePlan
from flowq.model.reasons import held_by_key, lost_below, reason_for
from flowq.model.snapshot import AttemptSnapshot, FlowSnapshot, Reason, StageSnapshot, WorkerSnapshot
from flowq.model.states import STATE_LETTER, StageState
from flowq.model.usage import summed
from flowq.model.values import SPILLED_CODE, fill
from flowq.store.dedup_view import dedup_of
from flowq.store.flow_fields import Items, Listed, fields_of, items_of
from flowq.store.forecasts import forecast_of
from flowq.store.item_snapshots import culprit_of, item_state, with_items
from flowq.store.pauses import Pauses, pause_of
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES, Views, cause_of, head_decoder, header_decoder, record_decoder
from flowq.store.wire import Head, Record, history_decoder

_artifacts = msgspec.msgpack.Decoder(tuple[Artifact, ...])
_amounts = msgspec.msgpack.Decoder(dict[str, float])
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
        self._pauses = Pauses(store)

    async def snapshot(self, flow_id: str, listed: Listed = lambda _, group: group.first_failed) -> FlowSnapshot:
        """The flow as it stands; of its maps those items are listed that `listed` names.

        Raises:
            FlowNotFound: there is none of this id.
            CorruptState: a part of it can't be read.
        """
        key = self._store.keys.flow(flow_id)
        head_data, header_data, digest = await self._store.connection.command("HMGET", key, "m", "o", "p")
        if head_data is None or header_data is None or digest is None:
            raise FlowNotFound(flow_id)
        plan = await (await self._store.plan(flow_id, digest.decode())).whole()
        fields = await fields_of(self._store, key, plan)
        items = await items_of(self._store, key, plan, fields, listed)
        workers = await self._views.workers()
        now = await self._views.now()
        try:
            fields.setdefault("m", head_data)
            head = head_decoder.decode(fields["m"])
            header = header_decoder.decode(header_data)
            pauses = await self._pauses.of_partition(self._store.keys.tag_of(flow_id))
            dedup = dedup_of(head, header, fields)
            snapshot = _Assembled(flow_id, plan, head, fields, items, workers, now, pauses, dedup).snapshot(
                header.pipeline, header.inputs, header.tenant, header.tags
            )
        except (msgspec.DecodeError, LookupError, TypeError) as error:  # bytes that are no msgpack, or are no record of ours
            raise CorruptState(flow_id, key, f"{type(error).__name__}: {error}") from None
        if snapshot.is_final:
            return snapshot
        forecast = await forecast_of(self._store, self._views, header.pipeline)
        eta = forecast.eta_seconds(snapshot.graph, now) if snapshot.state == "running" else None
        return msgspec.structs.replace(snapshot, progress=forecast.progress(snapshot.graph), eta_seconds=eta)


class _Assembled:
    """One reading of a flow, put together."""

    def __init__(
        self,
        flow_id: str,
        plan: Plan,
        head: Head,
        fields: dict[str, bytes],
        items: Items,
        workers: list[WorkerSnapshot],
        now: int,
        pauses: list[Pause],
        dedup: DedupSnapshot | None = None,
    ) -> None:
        self._flow_id = flow_id
        self._plan = plan
        self._head = head
        self._fields = fields
        self._workers = workers
        self._now = now
        self._begins_at: int = _unpack(fields["b"])[0] if "b" in fields else 0
        self._dedup = dedup
        self._pause = pause_of("flow", flow_id, fields["w"]) if head.status == "p" else None
        self._pauses = {(pause.kind, pause.name): pause for pause in pauses}
        self._groups = {index: group for index, (group, _) in items.items()}
        self._listed = {index: listed for index, (_, listed) in items.items()}
        indexes = (*range(len(plan.stages)), *(index for listed in self._listed.values() for index in listed))
        self._records = {index: record_decoder.decode(data) for index in indexes if (data := fields.get(str(index))) is not None}
        self._states = {index: self._state(index) for index in range(len(plan.stages))}
        self._lost: dict[int, Mapping[str, str]] = {}  # of each stage, made in their order: children come first

    def snapshot(self, pipeline: str, inputs: bytes, tenant: str, tags: tuple[str, ...]) -> FlowSnapshot:
        head = self._head
        graph = tuple(self._stage(index) for index in range(len(self._plan.stages)))
        path = critical_path([stage.children for stage in self._plan.stages], lambda index: _seconds_of(graph[index], self._now))
        names = tuple(self._plan.stages[index].name for index in path) if any(stage.run_seconds for stage in graph) else ()
        on_path = frozenset(names)
        state = FLOW_STATES[head.status]
        root, cause = cause_of(head)
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
            root_cause=culprit_of(min(failed, key=lambda stage: stage.ended_at or 0)) if failed else None,
            cancel_reason=head.reason if state == "cancelled" else "",
            cause=cause,
            run=head.run,
            critical_path=names,
            usage=summed(stage.usage for stage in graph),
            result=self._result() if state == "completed" else None,
            graph=tuple(msgspec.structs.replace(stage, is_critical=True) if stage.name in on_path else stage for stage in graph),
            begins_at=self._begins_at or None,
            deadline_at=head.deadline_at or None,
            pause=self._pause,
            fail_reason=cause if root is None else "",
            dedup=self._dedup,
        )

    def _state(self, index: int) -> StageState:
        record = self._records.get(index)
        if is_item(index):
            is_open = self._states[stage_of(index)] == "suspended"
            return item_state(record, self._groups[stage_of(index)], is_open=is_open)
        if record is not None:
            return STATE_LETTER[record.state]
        if self._plan.stages[index].children:
            return "blocked"
        return "scheduled" if self._head.status == "s" or self._ready_at(index) > self._now else "ready"

    def _ready_at(self, index: int) -> int:
        """Since when what waits for nothing and has no record is ready, or will be."""
        if is_item(index):
            return self._groups[stage_of(index)].opened_at
        return max(self._head.created_at, self._begins_at) + self._plan.stages[index].delay_ms

    def _stage(self, index: int) -> StageSnapshot:
        plan, record, state = self._plan.stages[stage_of(index)], self._records.get(index), self._state(index)
        children = () if is_item(index) else tuple(self._plan.stages[child].name for child in plan.children)
        failure = _failure.decode(data) if (data := self._fields.get(f"e{index}")) else None
        fraction, message = _unpack(data) if (data := self._fields.get(f"g{index}")) else (None, "")
        stage = StageSnapshot(
            name=self._plan.name_of(index),
            stage=plan.stage,
            version=plan.version,
            usage=_amounts.decode(data) if (data := self._fields.get(f"u{index}")) else {},
            queue=plan.queue,
            state=state,
            attempts=plan.attempts,
            children=children,
            failure=failure,
            is_tolerated=state == "failed" and not is_item(index) and self._plan.is_tolerated(index),
            progress=1.0 if state in ("completed", "skipped") else fraction,
            message=message,
            ready_at=self._ready_at(index) if state in ("ready", "scheduled") else None,
            result=self._value(index) if state == "completed" and f"r{index}" in self._fields else None,
            artifacts=_artifacts.decode(data) if (data := self._fields.get(f"a{index}")) else (),
            history=self._history(index),
        )
        if record is not None:
            stage = self._with_times(stage, record)
        if index in self._groups:
            stage = with_items(stage, self._groups[index], tuple(self._stage(item) for item in self._listed[index]))
        return msgspec.structs.replace(stage, reason=self._reason(index, stage, record))

    def _reason(self, index: int, stage: StageSnapshot, record: Record | None) -> Reason | None:
        if is_item(index) and stage.state == "ready" and index % ITEMS >= self._groups[stage_of(index)].handed_out:
            at_once = self._groups[stage_of(index)].at_once
            return Reason("at_once", f"at most {at_once:,} of its items run at once")
        plan = self._plan.stages[stage_of(index)]
        waited_for = [] if is_item(index) else [child for child in plan.children if not self._is_done_for(child, plan)]
        states = {self._plan.stages[child].name: self._states[child] for child in waited_for}
        lost: Mapping[str, str] = {}
        if not is_item(index):
            lost = self._lost[index] = lost_below(states, (self._lost[child] for child in waited_for))
        if stage.state == "scheduled" and (held := held_by_key(self._dedup, self._head.status == "s", self._begins_at)):
            return held
        is_suspect = record is not None and record.route.endswith("!")
        flow_state = FLOW_STATES[self._head.status]
        return reason_for(
            stage, states, self._workers, flow_state, self._now, is_suspect=is_suspect, lost=lost, pause=self._pause_of(plan)
        )

    def _pause_of(self, stage: StagePlan) -> Pause | None:
        """What keeps a stage from being claimed."""
        return self._pause or self._pauses.get(("pipeline", self._plan.pipeline)) or self._pauses.get(("queue", stage.queue))

    def _is_done_for(self, child: int, parent: StagePlan) -> bool:
        state = self._states[child]
        return state in ("completed", "skipped") or (state == "failed" and child in parent.tolerates)

    def _with_times(self, stage: StageSnapshot, record: Record) -> StageSnapshot:
        has_begun = record.state not in ("r", "s") and bool(record.holder)
        started_at = record.ready_at + record.waited if has_begun else None
        ran = self._now - started_at if record.state in ("x", "u") and started_at is not None else record.ran
        return msgspec.structs.replace(
            stage,
            attempt=record.attempt,
            runs=max(record.fence, len(stage.history) + (record.state in ("x", "c", "-"))),
            crashes=record.crashes,
            worker=worker_of(record.holder),
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
                worker_of(entry.worker),
                entry.started_at,
                entry.ran / 1000,
                entry.cause,
            )
            for entry in history_decoder.decode(data)
        )

    def _value(self, index: int) -> Any:
        """A stage's result; of a map only how many its items gave: those may be many."""
        data = self._fields[f"r{index}"]
        if data != LIST:
            return _unpack(data)
        return {"items": self._groups[index].done if index in self._groups else 0}

    def _result(self) -> Any:
        literal = _unpack(self._fields["out"]) if "out" in self._fields else None
        wanted = {binding.child for binding in self._plan.output}
        try:
            lists = {child: {"items": group.done} for child, group in self._groups.items()}
            return fill(literal, self._plan.output, {child: self._value(child) for child in wanted}, lists)
        except CorruptState:  # the part that the result takes lies in a spilled value
            return None


def _seconds_of(stage: StageSnapshot, now: int) -> float:
    """From its first start to its end, attempts that failed and the waits between them included."""
    if stage.started_at is None:
        return 0.0
    began_at = stage.history[0].started_at if stage.history else stage.started_at
    return ((stage.ended_at or now) - began_at) / 1000
