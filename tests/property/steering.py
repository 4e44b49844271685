"""What people do to flows, and the duties that finish what they began: closing, retrying, pausing, pruning."""

from __future__ import annotations

from collections.abc import Set

from tests.property.flows import ENDED, FLOW, OVER, Flow, Stage
from tests.property.outcomes import Outcomes
from tests.property.world import BENEATH, ITSELF


class Steering(Outcomes):
    """One method for each verb."""

    def close(self, flow: Flow, reason: str) -> list[Flow]:
        """Cancels a flow, or finishes one that fails at once, or closes: nothing of it goes on, nor of what stands beneath.

        One of which all has completed by then has completed. Gives the flows beneath it that close with it.
        """
        is_failing = flow.state == "failing"
        if flow.state not in ("failing", "closing"):
            flow.reason = reason
        for number in range(len(flow.parts)):
            self.forget(flow.id, f"b{number}")
        for stage in flow.stages:
            if stage.state not in OVER:
                self.stop(flow, stage)
            self.stop_items(flow, stage)
        flow.state = "completed" if not flow.unfinished else "failed" if is_failing else "cancelled"
        self.emit(flow, flow.state, FLOW)
        because = f" ({flow.reason})" if flow.reason else ""
        why = f"the flow above was cancelled{because}" if flow.state == "cancelled" else f"the flow above {flow.state}"
        closed = [child for child in self.beneath(flow) if self.begin_closing(child, why)]
        if flow.state == "completed":
            flow.reason = ""
        self.over(flow)
        return closed

    def finish_closing(self, flow_id: str, what: int) -> None:
        """Finishes what is being closed: a flow, what runs of a map that has ended without it, or what stands beneath a flow."""
        flow = self.flows.get(flow_id)
        if what == ITSELF:
            self.closing.discard((flow_id, what))
            closed = self.close(flow, "") if flow is not None and flow.state in ("failing", "closing") else []
        else:
            if what != BENEATH:
                self.disband(flow_id, what)
            closed = self.orphans(flow_id)
        for child in closed:
            self.finish_closing(child.id, ITSELF)

    def disband(self, flow_id: str, index: int) -> None:
        """Stops what still runs of a map that has ended without it, unless it goes on since."""
        self.closing.discard((flow_id, index))
        flow = self.flows.get(flow_id)
        if flow is not None and flow.stages[index].state != "suspended":
            self.stop_items(flow, flow.stages[index])
        if flow is not None:
            self.note_beneath(flow)

    def retry_by_hand(self, flow: Flow, chosen: list[int], maps: dict[int, list[int]], alone: Set[int]) -> None:
        """Runs stages again, and what was made of them; of `maps` these items and, if not `alone`, what has not completed."""
        again = set(chosen)
        for stage in flow.stages:
            if any(child in again or child in maps for child in stage.plan.children):
                again.add(stage.index)
        maps = {index: numbers for index, numbers in maps.items() if index not in again}
        for index in sorted({*again, *maps}):
            if (flow.id, index) in self.closing:
                self.disband(flow.id, index)
        before = {index: flow.stages[index].state for index in again}
        flow.state, flow.reason, flow.has_deadline, flow.has_ghosts = "running", "", False, True
        flow.is_early = False
        attempts = {index: flow.stages[index].attempt for index in again}
        for index in again:
            flow.stages[index].again()
            flow.stages[index].has_items = False
        for index in maps:
            flow.stages[index].state = "suspended"
        for index in sorted(again):
            stage = flow.stages[index]
            is_ready = all(flow.bears(stage, flow.stages[child]) for child in stage.plan.children)
            if is_ready or before[index] != "blocked":
                self.emit(flow, "retried", index, attempts[index])
            if is_ready:
                stage.is_later = True
                self.make_ready(stage)
        for index in sorted(maps):
            self._reopen(flow, flow.stages[index], maps[index], is_alone=index in alone)
        flow.run += 1

    def _reopen(self, flow: Flow, stage: Stage, numbers: list[int], *, is_alone: bool) -> None:
        self.emit(flow, "retried", stage.index, stage.attempt)
        stage.result, stage.first_failed, stage.is_later = None, None, True
        others = [item for number, item in enumerate(stage.items) if number not in numbers]
        stage.spared = [item for item in others if is_alone and item.state != "completed"]
        for number, item in enumerate(stage.items):
            is_named = number in numbers
            if is_named and (item.index in flow.recorded or is_alone):
                self.emit(flow, "retried", item.index, item.attempt)
            if is_named or (item.state not in ("completed", "running") and item not in stage.spared):
                # What its last run was is only forgotten when it is claimed, or named.
                attempt = 0 if is_named else item.attempt
                item.again()
                item.attempt = attempt
        self._hand_out(flow, stage)

    def pause(self, flow: Flow) -> None:
        """Nothing new of it is begun."""
        if flow.state != "paused":
            flow.state = "paused"
            self.emit(flow, "paused", FLOW)
            # As what is put aside of it when it goes on, that of those beneath it comes back in another order.
            for child in self.beneath(flow):
                child.has_ghosts = True

    def resume(self, flow: Flow) -> None:
        """It goes on."""
        if flow.state == "paused":
            flow.state = "running" if flow.has_begun else "scheduled" if flow.is_early else "ready"
            self.emit(flow, "resumed", FLOW)
            flow.has_ghosts = True

    def prune(self, flow: Flow) -> None:
        """Removes an ended flow."""
        if flow.state in ENDED:
            self.emit(flow, "pruned", FLOW)
            del self.flows[flow.id]
