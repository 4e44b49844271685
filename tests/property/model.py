"""What a flow is, in plain Python: the executable statement of how stages and flows move, without a server, counters or lanes.

Each verb is one method; everything that the scripts count is computed here from the states of all stages. Times do not exist: a
stage that waits for a time waits until somebody says that it is due. What the server may choose freely (which of several lanes
of one priority, in which order the stages of a dead process are taken back) the model does not predict: `claims.py` judges what
was chosen.
"""

from __future__ import annotations

from collections.abc import Callable

from flowq.model.items import stage_of
from flowq.model.outcome import Token
from tests.property.flows import FLOW, OPEN, Flow, Stage
from tests.property.steering import Steering

# In which state a stage is found that was reported in this way.
_ENDS_OF = {
    "complete": ("completed",),
    "skip": ("skipped",),
    "fail": ("failed",),
    "retry": ("scheduled",),
    "release": ("ready",),
    "suspend": ("suspended", "ready"),
    "expand": ("suspended", "completed", "failed"),
}


class Model(Steering):
    """How stages are claimed, lose their processes and end their flows; the other verbs are those of its base classes."""

    # ── what is reported ─────────────────────────────────────────────────────────────────────────────────────────

    def verdicts(self, flow_id: str, index: int, token: Token, verb: str) -> tuple[str, ...]:
        """What may be answered to who reports under this token; "": it is accepted, and nothing else may be answered."""
        if (flow := self.flows.get(flow_id)) is None:
            return ("gone",)
        stage = flow.at(index)
        if stage is None or stage.token != token or (stage.is_item and not flow.stages[stage_of(index)].has_items):
            # What is left of an item of an earlier run may still know its token.
            return ("stale", "replayed", "late") if index != stage_of(index) else ("stale",)
        if stage.state == "cancelled":
            return ("late",)
        if stage.state != "running":
            return ("replayed",) if stage.state in _ENDS_OF[verb] else ("stale",)
        return ("late",) if stage.is_item and flow.map_of(stage) is None else ("",)

    def is_run_by(self, holder: str, flow_id: str, index: int) -> bool:
        """Whether this holder runs this stage now, under whatever token."""
        flow = self.flows.get(flow_id)
        stage = flow.at(index) if flow is not None else None
        return stage is not None and stage.state == "running" and stage.holder == holder

    def claim(self, flow: Flow, stage: Stage, holder: str, token: Token) -> None:
        """A holder runs it from now on."""
        stage.attempt = 1 if stage.is_first else stage.attempt + 1
        if stage.is_first:
            for other in flow.every():
                other.gives_way |= other.is_first and other.route == stage.route
        stage.state, stage.holder, stage.token, stage.is_first, stage.result = "running", holder, token, False, None
        if stage.is_item:
            flow.recorded.add(stage.index)
        flow.has_begun = True
        if flow.state == "ready":
            flow.state = "running"
        self.held[holder].add((flow.id, stage.index))
        self.emit(flow, "claimed", stage.index, stage.attempt)

    # ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def rescue(self, holder: str, is_here: Callable[[str], bool], *, is_crash: bool, is_lost: bool, was_alone: bool) -> None:
        """The process is gone: what it ran is ready again, at no attempt. Crashes are counted for who was alone in it."""
        self._places += 1
        for flow_id, index in sorted(one for one in self.held[holder] if is_here(one[0])):
            self.held[holder].discard((flow_id, index))
            flow = self.flows.get(flow_id)
            stage = flow.at(index) if flow is not None else None
            if flow is None or stage is None or stage.state != "running" or stage.holder != holder or flow.state not in OPEN:
                continue
            if is_crash and was_alone and (stage.is_suspect or not is_lost):
                stage.crashes += 1
            self.emit(flow, "rescued", index, stage.attempt)
            stage.attempt -= 1
            stage.is_suspect |= is_crash
            # In which order they come back is nobody's business: all get the same place.
            stage.state, stage.place, stage.gives_way = "ready", self._places, False

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """A flow of which nothing is under way has ended: completed, if no stage is left."""
        over = [flow for flow in self.flows.values() if flow.state in OPEN and not flow.active]
        for flow in over:
            flow.state = "failed" if flow.unfinished else "completed"
            self.emit(flow, flow.state, FLOW)
        for flow in over:
            self.over(flow)
            self.note_beneath(flow)
