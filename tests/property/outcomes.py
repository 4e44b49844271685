"""What becomes of running stages, and what that means to their maps, their parents and their flow."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.model.items import LIST, item_index
from flowq.model.outcome import Wait
from tests.property.families import Families
from tests.property.flows import ACTIVE, ENDED, OPEN, Flow, Stage
from tests.property.world import ITSELF


class Outcomes(Families):
    """One method for each way in which a run may end."""

    def complete(self, flow: Flow, stage: Stage, result: bytes, verb: str = "completed") -> None:
        """It has a result, or (`skipped`) is not needed; its parents may go on."""
        stage.state, stage.result = verb, result
        stage.forget_waits()
        self.emit(flow, verb, stage.index, stage.attempt)
        self._ended(flow, stage)

    def fail(self, flow: Flow, stage: Stage, cause: str, result: bytes | None) -> None:
        """It has failed for good. `result`: what those get who tolerate it."""
        stage.state, stage.cause, stage.result = "failed", cause, result
        if not stage.is_item:
            self._blame(flow, stage, cause)
        self.emit(flow, "failed", stage.index, stage.attempt)
        self._ended(flow, stage)

    def retry(self, flow: Flow, stage: Stage, *, is_free: bool) -> None:
        """The attempt failed, and another one follows when its time has come."""
        self.emit(flow, "retried", stage.index, stage.attempt)
        stage.attempt -= is_free
        stage.state = "scheduled"
        self.wait(flow, stage.index)

    def give_back(self, flow: Flow, stage: Stage) -> None:
        """Nothing of it was done: it costs no attempt."""
        stage.attempt -= 1
        self.make_ready(stage)
        self.emit(flow, "released", stage.index, stage.attempt)

    def expand(self, flow: Flow, stage: Stage, count: int) -> None:
        """A map knows its list."""
        assert stage.plan.mapping is not None
        stage.state, stage.is_suspect, stage.has_items = "suspended", False, True
        stage.is_later = True
        stage.need = stage.plan.mapping.need or count
        stage.spared = []
        stage.items = [Stage(item_index(stage.index, number), stage.plan) for number in range(count)]
        self.emit(flow, "suspended", stage.index, stage.attempt)
        self._hand_out(flow, stage)

    def suspend(self, flow: Flow, stage: Stage, waits: Sequence[Wait], seen: Sequence[str]) -> None:
        """It gives its slot back until the first of these comes: a time, a signal, the end of a flow that it spawned."""
        stage.state, stage.waits = "suspended", tuple(waits)
        stage.suspensions += 1
        self.emit(flow, "suspended", stage.index, stage.attempt)
        timers = [wait.timer for wait in waits if wait.timer]
        for timer in timers:
            # One that it started before runs on.
            stage.timers.setdefault(timer, "runs")
        stage.timers |= dict.fromkeys(seen, "seen")
        for wait in waits:
            if wait.refused:
                flow.signals.pop(wait.name, None)
            if wait.kind == "signal" and wait.name not in flow.signals and stage.index not in flow.listeners.get(wait.name, []):
                flow.listeners.setdefault(wait.name, []).append(stage.index)
        # What came before counts.
        if any(self._is_there(flow, wait) for wait in waits) or any(stage.timers[timer] == "over" for timer in timers):
            self.wake(flow, stage)
        elif any(stage.timers[timer] == "runs" for timer in timers):
            self.wait(flow, stage.index)

    def _is_there(self, flow: Flow, wait: Wait) -> bool:
        if wait.kind == "signal":
            return wait.name in flow.signals
        child = self.flows.get(wait.name)
        return wait.kind == "flow" and (child is None or child.state in ENDED)

    def _ended(self, flow: Flow, stage: Stage) -> None:
        if stage.is_item:
            map_stage = flow.map_of(stage)
            assert map_stage is not None
            self._item_ended(flow, map_stage, stage)
            return
        for index in stage.plan.parents:
            parent = flow.stages[index]
            # A parent that has begun before was released before.
            if parent.state == "blocked" and flow.bears(parent, stage):
                self._release(flow, parent)
        if stage.state == "failed" and flow.plan.fail_fast and not flow.is_tolerated(stage.index) and flow.state in OPEN:
            flow.state = "failing"
            self.closing.add((flow.id, ITSELF))

    def _item_ended(self, flow: Flow, stage: Stage, item: Stage) -> None:
        states = [one.state for one in stage.items if one not in stage.spared]
        done, lost = states.count("completed"), states.count("failed")
        if item.state == "failed" and stage.first_failed is None:
            stage.first_failed = item
        is_hopeless = flow.plan.fail_fast and not flow.is_tolerated(stage.index) and len(states) - lost < stage.need
        goes_on = not is_hopeless if item.state == "failed" else done < stage.need
        if goes_on and done + lost < len(states):
            self._hand_out(flow, stage)
            return
        if done + lost < len(states):
            self.closing.add((flow.id, stage.index))
        if item.state == "completed" and done >= stage.need:
            self.complete(flow, stage, LIST)
        else:
            first = stage.first_failed
            assert first is not None
            stage.state = "failed"
            stage.result, stage.cause = first.result, f"[{stage.items.index(first)}] {first.cause}"
            self._blame(flow, stage, first.cause, first.index)
            self.emit(flow, "failed", stage.index, stage.attempt)
            self._ended(flow, stage)

    def _release(self, flow: Flow, parent: Stage) -> None:
        if not all(flow.bears(parent, flow.stages[child]) for child in parent.plan.children):
            return
        parent.is_later = True
        if parent.plan.delay_ms:
            parent.state = "scheduled"
            self.wait(flow, parent.index)
            self.emit(flow, "delayed", parent.index)
        else:
            self.make_ready(parent)
            self.emit(flow, "released", parent.index)

    def _blame(self, flow: Flow, stage: Stage, cause: str, index: int | None = None) -> None:
        if not flow.is_tolerated(stage.index) and not flow.reason:
            flow.reason = f"{stage.index if index is None else index} {cause}"

    def _hand_out(self, flow: Flow, stage: Stage) -> None:
        assert stage.plan.mapping is not None
        room = stage.plan.mapping.at_once or len(stage.items)
        under_way = sum(item.state in ACTIVE for item in stage.items)
        for item in [item for item in stage.items if item.state == "blocked"][: max(0, room - under_way)]:
            item.is_first, item.is_later = True, stage.is_later
            self.make_ready(item)
