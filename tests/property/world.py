"""All flows of a namespace and who runs what, and the smallest steps, which all verbs of the model are made of."""

from __future__ import annotations

from collections import defaultdict

from tests.property.flows import OVER, Flow, Stage

# What is being closed of a flow: itself, or what stands beneath it. Maps that ended early have their stage's index.
ITSELF, BENEATH = -1, -2


class World:
    """All flows of a namespace, and who runs what.

    Attributes:
        flows: by id.
        waiting: (flow, what) of all that waits for a time: an index, `b0` for a part of the beginning, `e` for the deadline.
        due: those of them whose time has come, in order.
        closing: (flow, index of a map, or ITSELF, or BENEATH) of what has to be stopped.
        held: who runs what.
        told: what a holder has to be told: the runs of stages that were cancelled under it.
        paused: `queue:…` and `pipeline:…`.
        added: the priorities that flows of an id had, also those that were removed.
        let_go: paused flows that have just ended: what was put aside for them and goes on comes back with the next call.
        events: what each flow's history has gained since it was last looked at: (verb, index, attempt).
    """

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.waiting: set[tuple[str, int | str]] = set()
        self.due: list[tuple[str, int | str]] = []
        self.closing: set[tuple[str, int]] = set()
        self.held: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self.told: defaultdict[str, list[tuple[str, int, int, str]]] = defaultdict(list)
        self.paused: set[str] = set()
        self.events: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self.added: defaultdict[str, set[int]] = defaultdict(set)
        self.let_go: list[Flow] = []
        self._places = 0

    def emit(self, flow: Flow, verb: str, index: int, attempt: int = 0) -> None:
        """One more event of a flow."""
        flow.seq += 1
        self.events[flow.id].append((verb, index, attempt))

    def wait(self, flow: Flow, what: int | str) -> None:
        """It waits for a time, from now on."""
        self.forget(flow.id, what)
        self.waiting.add((flow.id, what))

    def forget(self, flow_id: str, what: int | str) -> None:
        """It waits no more."""
        self.waiting.discard((flow_id, what))
        if (flow_id, what) in self.due:
            self.due.remove((flow_id, what))

    def make_ready(self, stage: Stage) -> None:
        """The last in its lane."""
        self._places += 1
        stage.state, stage.place, stage.gives_way = "ready", self._places, False

    def wake(self, flow: Flow, stage: Stage) -> None:
        """A suspended stage goes on, at no attempt, and before all others of its lane: it has waited already."""
        self.forget(flow.id, stage.index)
        self.emit(flow, "resumed", stage.index, stage.attempt)
        stage.attempt -= 1
        stage.state, stage.place, stage.gives_way = "ready", 0, False

    def stop(self, flow: Flow, stage: Stage) -> None:
        """Nobody waits for it any more; who runs it is told."""
        if stage.state == "running" and stage.token is not None:
            self.told[stage.holder].append((flow.id, stage.index, stage.token.fence, stage.token.nonce))
            self.held[stage.holder].discard((flow.id, stage.index))
        if stage.state in ("scheduled", "suspended"):
            self.forget(flow.id, stage.index)
        stage.state, stage.is_first = "cancelled", False
        self.emit(flow, "cancelled", stage.index, stage.attempt)

    def stop_items(self, flow: Flow, stage: Stage) -> None:
        """The same for what has begun of a map; the rest never will."""
        for item in stage.items if stage.has_items else ():
            if item.is_first or item.state == "blocked":
                item.state, item.is_first = "cancelled", True
            elif item.state not in OVER:
                self.stop(flow, item)
