"""Flows that stages spawn: how they are tied to the flows above them, and what the end of one means to the other."""

from __future__ import annotations

from collections.abc import Iterator

from flowq.model.names import parent_id, root_id
from flowq.model.outcome import Token
from tests.property.beginnings import Beginnings
from tests.property.flows import ENDED, FLOW, OPEN, Flow, Link
from tests.property.world import BENEATH, ITSELF

# Of more flows beneath one that has ended it is not asked whether they have ended too.
_LOOKED_AT_MAX = 10


class Families(Beginnings):
    """Spawning, waking who waits, closing what nobody waits for, removing what outlived its root."""

    def above(self, flow: Flow) -> Iterator[Flow]:
        """The flows above one, from the nearest on, as far as they are there."""
        known = self.flows.get(parent_id(flow.id) or "")
        while known is not None:
            yield known
            known = self.flows.get(parent_id(known.id) or "")

    def beneath(self, flow: Flow) -> list[Flow]:
        """The flows beneath one, at any depth, by id; those that an earlier flow of the root's id left do not count."""
        root = self.flows.get(root_id(flow.id))
        found = [one for one in self.flows.values() if one.link is not None and one.link.root is root]
        return sorted((one for one in found if one.id.startswith(f"{flow.id}^")), key=lambda one: one.id)

    def spawn(self, above: str, index: int, token: Token, run: int, attempt: int, child: Flow) -> str:
        """A run adds a flow beneath its own, or finds it again; only who holds the token of a flow that goes on may."""
        flow, root, known = self.flows.get(above), self.flows.get(root_id(above)), self.flows.get(child.id)
        stage = flow.at(index) if flow is not None and flow.state in OPEN else None
        if flow is None or stage is None or root is None or stage.state != "running" or stage.token != token:
            return "stale"
        if flow.link is not None and flow.link.root is not root:
            return "stale"
        if known is None or known.link is None or known.link.root is not root:
            self.closing -= {(child.id, ITSELF), (child.id, BENEATH)}  # what an earlier root of the same id left in its place
            child.link = Link(index, root, run, attempt)
            self.add(child)
            # What is put aside comes back in another order.
            child.has_ghosts |= any(one.state == "paused" for one in self.above(child))
            return "added"
        if (known.plan.pipeline, known.inputs) != (child.plan.pipeline, child.inputs):
            return "conflict"
        # What becomes of it from now on is news to who found it; not, that it is cancelled since before a retry by hand.
        if known.state not in ENDED and (known.state != "closing" or known.link.run == run):
            self.adopt(known, run, attempt)
        return "found"

    def adopt(self, child: Flow, run: int, attempt: int) -> None:
        """It is of this run and attempt of the stage that spawned it."""
        assert child.link is not None
        child.link.run, child.link.attempt = run, attempt

    def over(self, flow: Flow) -> None:
        """It has ended: nothing of it waits for a time any more, and the stage that spawned it goes on."""
        self.closing.discard((flow.id, ITSELF))
        self.forget(flow.id, "e")
        above = next(self.above(flow), None)
        # What an earlier root of the same id left behind is of no stage that there is now, unless that was left behind as well.
        is_own = above is not None and flow.link is not None and flow.link.root is (above.link.root if above.link else above)
        if above is not None and flow.link is not None and above.state in OPEN and is_own:
            stage = above.at(flow.link.stage)
            if stage is not None and stage.state == "suspended":
                self.wake(above, stage)

    def note_beneath(self, flow: Flow) -> None:
        """It has ended, or some items of it were stopped: what they spawned is to be closed, unless it has ended too."""
        found = self.beneath(flow)
        goes_on = any(parent_id(child.id) == flow.id and child.state not in ENDED for child in found)
        if goes_on or len(found) >= _LOOKED_AT_MAX:
            self.closing.add((flow.id, BENEATH))

    def orphans(self, flow_id: str) -> list[Flow]:
        """Begins to close what nobody waits for any more: all beneath a flow that has ended, else what cancelled items did."""
        if (flow_id, BENEATH) not in self.closing:
            return []
        self.closing.discard((flow_id, BENEATH))
        if (flow := self.flows.get(flow_id)) is None:
            return []
        closed: list[Flow] = []
        why = "was cancelled" if flow.state not in ("completed", "failed") else flow.state
        # What is further beneath is closed with what is between.
        for child in [one for one in self.beneath(flow) if parent_id(one.id) == flow.id]:
            assert child.link is not None
            stage = flow.at(child.link.stage)
            is_orphan = flow.state in ENDED or (stage is not None and stage.state == "cancelled")
            reason = f"the {'flow' if flow.state in ENDED else 'stage'} above {why}"
            if is_orphan and self.begin_closing(child, reason):
                closed.append(child)
        return closed

    def begin_closing(self, flow: Flow, reason: str) -> bool:
        """From now on nothing of it is claimed; a duty cancels the rest. Returns whether it went on until now."""
        if flow.state not in (*OPEN, "scheduled"):
            return False
        flow.state, flow.reason = "closing", reason
        self.closing.add((flow.id, ITSELF))
        return True

    def signal(self, flow: Flow, name: str, value: bytes) -> str:
        """Hands a value to all that wait for it, now or later; the first of a name counts."""
        if flow.signals.get(name) == value:
            return "known"
        if flow.state not in (*OPEN, "scheduled"):
            return "ended"
        if name in flow.signals:
            return "differs"
        flow.signals[name] = value
        self.emit(flow, "signalled", FLOW)
        for index in flow.listeners.pop(name, []):
            stage = flow.at(index)
            if stage is not None and stage.state == "suspended":
                self.wake(flow, stage)
        return "signalled"

    def fell(self) -> None:
        """What an earlier root left behind is removed when it has ended; until then it is closed."""
        for flow in list(self.flows.values()):
            if flow.link is None or self.flows.get(root_id(flow.id)) is flow.link.root:
                continue
            if flow.state in ENDED:
                self.emit(flow, "pruned", FLOW)
                del self.flows[flow.id]
            else:
                self.begin_closing(flow, "the flow above was removed")
