"""Reads one flow whole and makes the snapshot that `inspect`, the command line and tests look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowNotFound
from flowq.model.artifact import Artifact
from flowq.model.dedup import DedupSnapshot
from flowq.model.failure import FAILURE_CODE, Failure, StageFailure, is_failure
from flowq.model.fleet import WorkerSnapshot
from flowq.model.graph import critical_path
from flowq.model.items import ITEMS, LIST, is_item, item_index, stage_of
from flowq.model.names import parent_id
from flowq.model.pause import Pause
from flowq.model.plan import Plan, StagePlan
from flowq.model.reasons import held_by_key, lost_below, own_message, reason_for
from flowq.model.snapshot import FlowSnapshot, Reason, StageSnapshot
from flowq.model.states import STATE_LETTER, StageState
from flowq.model.usage import summed
from flowq.model.values import SPILLED_CODE, fill
from flowq.store.dedup_view import dedup_of
from flowq.store.flow_fields import Items, Listed, fields_of, history_of, items_of, unread_items
from flowq.store.forecasts import forecast_of
from flowq.store.full_limits import full_limits
from flowq.store.hook_snapshots import hooks_after
from flowq.store.item_snapshots import culprit_of, item_state, with_items
from flowq.store.literals import INPUTS, inputs_in
from flowq.store.paused_others import telling_of_pauses
from flowq.store.pauses import Pauses, pause_of
from flowq.store.remembered import waits_of
from flowq.store.reused import with_earlier, with_other
from flowq.store.stage_times import seconds_of, with_times
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views, cause_of, head_decoder, header_decoder, record_decoder, state_of
from flowq.store.wire import Head, Record

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

    async def snapshot(self, flow_id: str, listed: Listed | None = None) -> FlowSnapshot:
        """The flow as it stands; of its maps those items are listed that `listed` names, else those that matter most.

        Raises:
            FlowNotFound: there is none of this id.
            CorruptState: a part of it can't be read.
        """
        key = self._store.keys.flow(flow_id)
        head_raw, header_raw, digest, link, *got = await self._store.connection.command("HMGET", key, "m", "o", "p", "^", *INPUTS)
        if head_raw is None or header_raw is None or digest is None:
            raise FlowNotFound(flow_id)
        async with self._store.unless_removed(flow_id):
            plan = await (await self._store.plan(flow_id, digest.decode())).whole()
            fields = await fields_of(self._store, key, plan)
            items = await items_of(self._store, key, plan, fields, listed)
        workers = await self._views.workers()
        now = await self._views.now()
        try:
            fields.setdefault("m", head_raw)
            head = head_decoder.decode(fields["m"])
            header = header_decoder.decode(header_raw)
            pauses, dedup = await self._pauses.around(flow_id), dedup_of(head, header, fields)
            assembled = _Assembled(flow_id, plan, head, fields, items, workers, now, pauses, dedup)
            assembled.full = await full_limits(self._store, assembled.waiting_queues, header.tenant)
            snapshot = assembled.snapshot(header.pipeline, header.inputs or inputs_in(got), header.tenant, header.tags)
            spawned = tuple(await self._views.summaries(await Suspensions(self._store).beneath(flow_id, head, link)))
            graph = await telling_of_pauses(self._views, snapshot.graph)
        except (msgspec.DecodeError, LookupError, TypeError) as error:  # bytes that are no msgpack, or are no record of ours
            raise CorruptState(flow_id, key, f"{type(error).__name__}: {error}") from None
        hooks = await hooks_after(self._store, flow_id, digest.decode(), head, self.snapshot)
        snapshot = msgspec.structs.replace(snapshot, parent=parent_id(flow_id), spawned=spawned, hooks=hooks, graph=graph)
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
        # While it is retried in parts, what stays can't be told from what is to come.
        self._again_at = int(fields["q"]) if "q" in fields and head.status != "o" else None
        self._begins_at: int = _unpack(fields["b"])[0] if "b" in fields else 0
        self._dedup = dedup
        self._pause = pause_of("flow", flow_id, fields["w"]) if head.status == "p" else None
        self._above = next((pause for pause in pauses if pause.kind == "flow"), None)
        self._pauses = {(pause.kind, pause.name): pause for pause in pauses}
        self._items = items
        self._unread = unread_items(plan, items) if state_of(head) == "completed" else 0
        self._groups = {index: known.group for index, known in items.items()}
        indexes = (*range(len(plan.stages)), *(index for known in items.values() for index in known.listed))
        self._records = {index: record_decoder.decode(data) for index in indexes if (data := fields.get(str(index))) is not None}
        self._states = {index: self._state(index) for index in range(len(plan.stages))}
        self._lost: dict[int, Mapping[str, str]] = {}  # of each stage, made in their order: children come first
        self.full: dict[str, str] = {}

    @property
    def waiting_queues(self) -> set[str]:
        """The queues of stages that are ready, or have items that may be."""
        return {self._plan.stages[at].queue for at, state in self._states.items() if state == "ready" or at in self._groups}

    def snapshot(self, pipeline: str, inputs: bytes, tenant: str, tags: tuple[str, ...]) -> FlowSnapshot:
        head = self._head
        graph = tuple(self._stage(index) for index in range(len(self._plan.stages)))
        path = critical_path([stage.children for stage in self._plan.stages], lambda index: seconds_of(graph[index], self._now))
        names = tuple(self._plan.stages[index].name for index in path) if any(stage.run_seconds for stage in graph) else ()
        on_path = frozenset(names)
        state = state_of(head)
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
            result=self._result() if state == "completed" and not self._unread else None,
            result_items=self._unread,
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
            hook=plan.hook,
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
            history=history_of(self._fields.get(f"h{index}")),
        )
        if record is not None:
            stage = with_times(stage, record, self._now, is_map=index in self._items)
        if (known := self._items.get(index)) is not None:
            listed = tuple(self._stage(item) for item in known.listed)
            stage = with_items(stage, known.group, listed, known.suspended, known.beyond)
        stage = msgspec.structs.replace(stage, reason=self._reason(index, stage, record), message=own_message(message))
        stage = with_other(stage, record, self._fields.get(f"c{index}"))
        return with_earlier(stage, self._flow_id, self._again_at)

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
        flow_state = state_of(self._head)
        return reason_for(
            stage,
            states,
            self._workers,
            flow_state,
            self._now,
            is_suspect=is_suspect,
            lost=lost,
            pause=self._pause_of(plan),
            full=self.full,
            tenant=self._head.tenant,
            needs=plan.needs,
            waits=waits_of(self._fields.get(f"z{index}")) if stage.state == "suspended" else (),
        )

    def _pause_of(self, stage: StagePlan) -> Pause | None:
        """What keeps a stage from being claimed."""
        of_pipeline, of_queue = self._pauses.get(("pipeline", self._plan.pipeline)), self._pauses.get(("queue", stage.queue))
        return self._pause or self._above or of_pipeline or of_queue

    def _is_done_for(self, child: int, parent: StagePlan) -> bool:
        state = self._states[child]
        return state in ("completed", "skipped") or (state == "failed" and child in parent.tolerates)

    def _value(self, index: int) -> Any:
        """A stage's result; of a map only how many its items gave: those may be many."""
        data = self._fields[f"r{index}"]
        if data != LIST:
            return _unpack(data)
        return {"items": self._groups[index].done if index in self._groups else 0}

    def _list(self, index: int) -> list[Any]:
        """What the items of a map gave."""
        count = self._groups[index].count if index in self._groups else 0
        found = (self._fields.get(f"r{item_index(index, number)}") for number in range(count))
        return [_unpack(data) for data in found if data is not None and not is_failure(data)]

    def _result(self) -> Any:
        literal = _unpack(self._fields["out"]) if "out" in self._fields else None
        wanted = {binding.child for binding in self._plan.output}
        try:
            lists = {child: self._list(child) for child in wanted if self._plan.stages[child].mapping is not None}
            values = {child: self._value(child) for child in wanted}
            full = {
                child: lists[child] if child in lists and self._fields[f"r{child}"] == LIST else value
                for child, value in values.items()
            }
            return fill(literal, self._plan.output, full, lists)
        except CorruptState:  # the part that the result takes lies in a spilled value
            return None
