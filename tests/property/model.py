"""What a flow is, in plain Python: the executable statement of how stages and flows move, without a server, counters or lanes.

Each verb is one method; everything that the scripts count is computed here from the states of all stages. Times do not exist: a
stage that waits for a time waits until somebody says that it is due. What the server may choose freely (which of several lanes
of one priority, in which order the stages of a dead process are taken back) the model does not predict: `claims.py` judges what
was chosen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field

from flowq.model.items import LIST, item_index, stage_of
from flowq.model.outcome import Token
from flowq.model.plan import Plan, StagePlan

OVER = ("completed", "failed", "cancelled", "skipped")
ACTIVE = ("ready", "scheduled", "running", "suspended")
OPEN = ("ready", "running", "paused")
ENDED = ("completed", "failed", "cancelled")
OUT_OF_TIME = "its deadline passed"
# In which state a stage is found that was reported in this way.
_ENDS_OF = {
    "complete": ("completed",),
    "skip": ("skipped",),
    "fail": ("failed",),
    "retry": ("scheduled",),
    "release": ("ready",),
    "expand": ("suspended", "completed", "failed"),
}
# The event that the flow itself has, beside those of its stages.
FLOW = -1


@dataclass(slots=True, eq=False)
class Stage:
    """A stage, or an item of a map.

    Attributes:
        is_first: it is ready or scheduled since its flow was added, or its map opened: nobody has touched it yet.
        is_ahead: its flow has begun, and its pipeline finishes such flows first.
        place: since when it is ready, as a number that grows; of two in one lane the earlier goes first.
        gives_way: it became ready with others of its flow that were claimed since: those of other flows may go before it.
        items: of a map that knows its list.
        has_items: whether these are still those of its latest run.
        spared: items that stay as they ended, because another one runs again alone.
    """

    index: int
    plan: StagePlan
    state: str = "blocked"
    attempt: int = 0
    crashes: int = 0
    token: Token | None = None
    holder: str = ""
    is_suspect: bool = False
    is_first: bool = False
    is_ahead: bool = False
    place: int = 0
    gives_way: bool = False
    result: bytes | None = None
    cause: str = ""
    items: list[Stage] = field(default_factory=list)
    has_items: bool = False
    need: int = 0
    first_failed: Stage | None = None
    spared: list[Stage] = field(default_factory=list)

    @property
    def route(self) -> str:
        """Where it waits to be claimed."""
        return self.plan.route + ("!" if self.is_suspect else "")

    @property
    def is_item(self) -> bool:
        """Whether it belongs to a map."""
        return self.index != stage_of(self.index)

    @property
    def has_enough(self) -> bool:
        """Whether as many of its items have completed as it needs."""
        return sum(item.state == "completed" for item in self.items) >= self.need

    def again(self) -> None:
        """Forgets its runs."""
        self.state, self.attempt, self.crashes, self.token, self.holder = "blocked", 0, 0, None, ""
        self.is_suspect, self.is_first, self.result, self.cause, self.first_failed = False, False, None, "", None


class Flow:
    """A flow: its stages, and what is true of it as a whole."""

    def __init__(self, flow_id: str, plan: Plan, inputs: bytes, priority: int, *, begins_later: bool, has_deadline: bool) -> None:
        self.id, self.plan, self.inputs, self.priority = flow_id, plan, inputs, priority
        self.state = "scheduled" if begins_later else "ready"
        self.is_early, self.has_begun, self.has_deadline = begins_later, False, has_deadline
        self.stages = [Stage(index, stage) for index, stage in enumerate(plan.stages)]
        self.parts: list[list[int]] = []
        self.reason, self.run, self.seq = "", 1, 0
        # Items that have ever been claimed; a map that is run again may have them again.
        self.recorded: set[int] = set()
        # Entries of an earlier life may still be in the lanes, so that a stage may be claimed before its turn.
        self.has_ghosts = False

    def at(self, index: int) -> Stage | None:
        """A stage or an item."""
        stage = self.stages[stage_of(index)]
        if index == stage.index:
            return stage
        number = index - item_index(stage.index, 0)
        return stage.items[number] if number < len(stage.items) else None

    def map_of(self, item: Stage) -> Stage | None:
        """The map that this item belongs to, if it still counts."""
        stage = self.stages[stage_of(item.index)]
        return stage if stage.state == "suspended" else None

    def every(self) -> Iterator[Stage]:
        """All stages and items."""
        for stage in self.stages:
            yield stage
            yield from stage.items

    def bears(self, parent: Stage, child: Stage) -> bool:
        """Whether a parent need not wait for this child any more."""
        return child.state in ("completed", "skipped") or (child.state == "failed" and child.index in parent.plan.tolerates)

    def is_tolerated(self, index: int) -> bool:
        """Whether all who use a stage's result go on if it fails: then the flow may complete all the same."""
        users = [index in self.stages[parent].plan.tolerates for parent in self.stages[index].plan.parents]
        users += [use.on_failure != "fail" for use in self.plan.output if use.child == index]
        return bool(users) and all(users)

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage does not keep the flow from completing."""
        return stage.state in ("completed", "skipped") or (stage.state == "failed" and self.is_tolerated(stage.index))

    @property
    def active(self) -> int:
        """How many stages are under way."""
        return sum(stage.state in ACTIVE for stage in self.stages)

    @property
    def unfinished(self) -> int:
        """How many stages keep it from completing."""
        return sum(not self.is_done(stage) for stage in self.stages)

    @property
    def failures(self) -> int:
        """How many have failed and keep it from completing."""
        return sum(stage.state == "failed" and not self.is_tolerated(stage.index) for stage in self.stages)


class Model:
    """All flows of a namespace, and who runs what.

    Attributes:
        flows: by id.
        waiting: (flow, what) of all that waits for a time: an index, `b0` for a part of the beginning, `e` for the deadline.
        due: those of them whose time has come, in order.
        closing: (flow, index of a map or FLOW) of what has to be stopped.
        held: who runs what.
        told: what a holder has to be told: (flow, index, fence) of stages that were cancelled under it.
        paused: `queue:…` and `pipeline:…`.
        events: what each flow's history has gained since it was last looked at: (verb, index, attempt).
    """

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {}
        self.waiting: set[tuple[str, int | str]] = set()
        self.due: list[tuple[str, int | str]] = []
        self.closing: set[tuple[str, int]] = set()
        self.held: defaultdict[str, set[tuple[str, int]]] = defaultdict(set)
        self.told: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self.paused: set[str] = set()
        self.events: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        self.added: set[str] = set()
        self._places = 0

    # ── the beginning ────────────────────────────────────────────────────────────────────────────────────────────

    def add(self, flow: Flow) -> None:
        """A new flow: what waits for no child is ready, now or when its time has come."""
        self.flows[flow.id] = flow
        flow.has_ghosts = flow.id in self.added
        self.added.add(flow.id)
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
                if flow.state in OPEN and stage is not None and stage.state == "scheduled":
                    self.make_ready(stage)
                    self.emit(flow, "promoted", what, stage.attempt)
            elif what == "e":
                if flow.state not in ENDED and flow.has_deadline:
                    if flow.state != "failing":
                        flow.state, flow.reason = "failing", OUT_OF_TIME
                    self.closing.add((flow_id, FLOW))
            elif flow.state in ("scheduled", *OPEN):
                if flow.state == "scheduled":
                    flow.state = "ready"
                    self.emit(flow, "promoted", FLOW)
                for index in flow.parts[int(what[1:])]:
                    self.make_ready(flow.stages[index])

    # ── what is reported ─────────────────────────────────────────────────────────────────────────────────────────

    def verdicts(self, flow_id: str, index: int, token: Token, verb: str) -> tuple[str, ...]:
        """What may be answered to who reports under this token; "": it is accepted, and nothing else may be answered."""
        if (flow := self.flows.get(flow_id)) is None:
            return ("gone",)
        stage = flow.at(index)
        if stage is None or stage.token != token or (stage.is_item and not flow.stages[stage_of(index)].has_items):
            # What is left of an item of an earlier run may still know its token.
            return ("stale", "replayed", "late") if index != stage_of(index) else ("stale",)
        if stage.state != "running":
            return ("replayed",) if stage.state in _ENDS_OF[verb] else ("stale",)
        return ("late",) if stage.is_item and flow.map_of(stage) is None else ("",)

    # ── what becomes of a running stage ──────────────────────────────────────────────────────────────────────────

    def complete(self, flow: Flow, stage: Stage, result: bytes, verb: str = "completed") -> None:
        """It has a result, or (`skipped`) is not needed; its parents may go on."""
        stage.state, stage.result = verb, result
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
        stage.is_ahead = flow.plan.finish_first
        stage.need = stage.plan.mapping.need or count
        stage.spared = []
        stage.items = [Stage(item_index(stage.index, number), stage.plan) for number in range(count)]
        self.emit(flow, "suspended", stage.index, stage.attempt)
        self._hand_out(flow, stage)

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
            self.closing.add((flow.id, FLOW))

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
        parent.is_ahead = flow.plan.finish_first
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
            item.is_first, item.is_ahead = True, stage.is_ahead
            self.make_ready(item)

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

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self, flow: Flow, reason: str) -> None:
        """Cancels a flow, or finishes one that fails at once: nothing of it goes on."""
        is_failing = flow.state == "failing"
        if not is_failing:
            flow.reason = reason
        for number in range(len(flow.parts)):
            self.forget(flow.id, f"b{number}")
        for stage in flow.stages:
            if stage.state not in OVER:
                self._stop(flow, stage)
            self._stop_items(flow, stage)
        flow.state = "failed" if is_failing else "cancelled"
        self.emit(flow, flow.state, FLOW)
        self._over(flow)

    def disband(self, flow_id: str, index: int) -> None:
        """Stops what still runs of a map that has ended without it, unless it goes on since."""
        self.closing.discard((flow_id, index))
        flow = self.flows.get(flow_id)
        if flow is not None and flow.stages[index].state != "suspended":
            self._stop_items(flow, flow.stages[index])

    def retry_by_hand(self, flow: Flow, chosen: list[int], maps: dict[int, list[int]], alone: Set[int]) -> None:
        """Runs stages again, and what was made of them; of `maps` these items and, if not `alone`, what has not completed."""
        again = set(chosen)
        for stage in flow.stages:
            if any(child in again or child in maps for child in stage.plan.children):
                again.add(stage.index)
        maps = {index: numbers for index, numbers in maps.items() if index not in again}
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
                stage.is_ahead = flow.plan.finish_first
                self.make_ready(stage)
        for index in sorted(maps):
            self._reopen(flow, flow.stages[index], maps[index], is_alone=index in alone)
        flow.run += 1

    def _reopen(self, flow: Flow, stage: Stage, numbers: list[int], *, is_alone: bool) -> None:
        self.emit(flow, "retried", stage.index, stage.attempt)
        stage.result, stage.first_failed, stage.is_ahead = None, None, flow.plan.finish_first
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

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """A flow of which nothing is under way has ended: completed, if no stage is left."""
        for flow in self.flows.values():
            if flow.state in OPEN and not flow.active:
                flow.state = "failed" if flow.unfinished else "completed"
                self.emit(flow, flow.state, FLOW)
                self._over(flow)

    def _over(self, flow: Flow) -> None:
        self.closing.discard((flow.id, FLOW))
        self.forget(flow.id, "e")

    # ── small steps ──────────────────────────────────────────────────────────────────────────────────────────────

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

    def _stop(self, flow: Flow, stage: Stage) -> None:
        if stage.state == "running" and stage.token is not None:
            self.told[stage.holder].append((flow.id, stage.index, stage.token.fence))
            self.held[stage.holder].discard((flow.id, stage.index))
        if stage.state == "scheduled":
            self.forget(flow.id, stage.index)
        stage.state, stage.is_first = "cancelled", False
        self.emit(flow, "cancelled", stage.index, stage.attempt)

    def _stop_items(self, flow: Flow, stage: Stage) -> None:
        for item in stage.items if stage.has_items else ():
            if item.is_first or item.state == "blocked":
                item.state, item.is_first = "cancelled", True
            elif item.state not in OVER:
                self._stop(flow, item)
