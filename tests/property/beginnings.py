"""How flows begin, and what happens when something's time has come."""

from __future__ import annotations

from collections.abc import Callable

from tests.property.flows import ENDED, FLOW, OPEN, Flow
from tests.property.world import ITSELF, World

OUT_OF_TIME = "its deadline passed"


class Beginnings(World):
    """Adding flows, and times that come."""

    def add(self, flow: Flow) -> None:
        """A new flow: what waits for no child is ready, now or when its time has come."""
        self.flows[flow.id] = flow
        flow.has_ghosts = flow.id in self.added
        self.added[flow.id].add(flow.priority)
        self.emit(flow, "added", FLOW)
        roots = [stage for stage in flow.stages if not stage.plan.children]
        for delay_ms in sorted({stage.plan.delay_ms for stage in roots}):
            part = [stage for stage in roots if stage.plan.delay_ms == delay_ms]
            for stage in part:
                stage.is_first = True
                stage.state = "scheduled"
                if not delay_ms and not flow.is_early:
                    self.make_ready(stage)
            if delay_ms or flow.is_early:
                self.wait(flow, f"b{len(flow.parts)}")
                flow.parts.append([stage.index for stage in part])
        if flow.has_deadline:
            self.wait(flow, "e")

    def promote(self, is_here: Callable[[str], bool]) -> None:
        """What is due happens, of the flows that are here."""
        for one in [one for one in self.due if is_here(one[0])]:
            self.forget(*one)
            flow_id, what = one
            if (flow := self.flows.get(flow_id)) is None:
                continue
            if isinstance(what, int):
                stage = flow.at(what)
                if flow.state in OPEN and stage is not None and stage.state == "suspended":
                    self.wake(flow, stage)
                elif flow.state in OPEN and stage is not None and stage.state == "scheduled":
                    self.make_ready(stage)
                    self.emit(flow, "promoted", what, stage.attempt)
            elif what == "e":
                if flow.state not in ENDED and flow.has_deadline:
                    if flow.state != "failing":
                        flow.state, flow.reason = "failing", OUT_OF_TIME
                    self.closing.add((flow_id, ITSELF))
            elif flow.state in ("scheduled", *OPEN):
                if flow.state == "scheduled":
                    flow.state = "ready"
                    self.emit(flow, "promoted", FLOW)
                for index in flow.parts[int(what[1:])]:
                    self.make_ready(flow.stages[index])
