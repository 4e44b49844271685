"""Judges what was claimed: whether it might be, in which order, and whether anything was left out.

The server may choose among lanes of one priority, so this says what is right of any choice, where model.py says what must come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from flowq.model.outcome import Claim
from tests.property.flows import OPEN, Flow, Stage
from tests.property.model import Model

_FINISH_FIRST = 0.5
# Of so many stages of a priority one may be of a flow that has not begun, if others wait.
_NEW_ONE_OF = 5


class Lane(NamedTuple):
    """Of those in one lane the first goes first; `is_later` are stages of flows that have begun."""

    priority: float
    is_later: bool
    route: str


def priority_of(flow: Flow, stage: Stage) -> float:
    """Larger goes first."""
    return flow.priority + stage.plan.priority + _FINISH_FIRST * (stage.is_later and flow.plan.finish_first)


def claimable(model: Model, is_here: Callable[[str], bool], routes: Sequence[str]) -> list[tuple[Flow, Stage]]:
    """What may be claimed now of these routes, in the order in which it became ready."""
    found: list[tuple[Flow, Stage]] = []
    for flow in model.flows.values():
        is_paused = (
            any(one.state == "paused" for one in (flow, *model.above(flow))) or f"pipeline:{flow.plan.pipeline}" in model.paused
        )
        if flow.state not in OPEN or is_paused or not is_here(flow.id):
            continue
        found += [
            (flow, stage)
            for stage in flow.every()
            if stage.state == "ready" and stage.route in routes and f"queue:{stage.plan.queue}" not in model.paused
            if not stage.is_item or flow.map_of(stage) is not None
        ]
    return sorted(found, key=lambda one: one[1].place)


def owed(model: Model, found: Sequence[tuple[Flow, Stage]]) -> list[tuple[Flow, Stage]]:
    """Those of what may be claimed that must be.

    What was put aside while a flow above was paused stays there when that fails or closes instead of going on: it goes with it.
    When that has ended it comes back, but not in the same call.
    """

    def is_aside(above: Flow) -> bool:
        return above.state in ("failing", "closing") or above in model.let_go

    return [one for one in found if not any(map(is_aside, model.above(one[0])))]


def judge(
    model: Model,
    is_here: Callable[[str], bool],
    holder: str,
    routes: Sequence[str],
    suspects: Sequence[str],
    capacity: int,
    claims: Sequence[Claim],
) -> None:
    """Applies the claims of one exchange to the model; an AssertionError says which should not have been, or is missing."""
    assert len(claims) <= capacity, "more was claimed than there is room for"
    lanes = _lanes(owed(model, claimable(model, is_here, routes)))
    # What need not be claimed may have its turn as well.
    lanes_too = _lanes(claimable(model, is_here, routes))
    claimed: list[Lane] = []
    for claim in claims:
        left = claimable(model, is_here, routes)
        if claim.is_suspect:
            before = [stage.index for _, stage in owed(model, left)]
            assert not before, f"a suspect was claimed before {before}"
            assert len(claims) == 1, "a suspect was claimed beside others"
            left = claimable(model, is_here, suspects)
        claimed.append(_judge_one(model, left, holder, claim))
    if len(claims) < capacity:
        left_over = [(flow.id, stage.index) for flow, stage in owed(model, claimable(model, is_here, routes))]
        assert not left_over, f"not claimed: {left_over}"
        assert claims or not owed(model, claimable(model, is_here, suspects)), "a suspect is ready, and was not claimed"
    _judge_turns(lanes, lanes_too, capacity, claimed)


def _judge_turns(lanes: set[Lane], lanes_too: set[Lane], capacity: int, claimed: Sequence[Lane]) -> None:
    """The lanes of one priority are served in turns, so that none waits for another."""
    highest = max((lane.priority for lane in lanes), default=0.0)
    beside = {lane for lane in lanes_too if lane.priority == highest}
    # What need not be claimed, but may have a higher priority, goes first.
    capacity -= sum(lane.priority > highest for lane in claimed)
    for is_later in (True, False):
        others = any(lane.is_later != is_later for lane in beside)
        room = capacity if not others else capacity - -(-capacity // _NEW_ONE_OF) if is_later else capacity // _NEW_ONE_OF
        if room >= sum(lane.is_later == is_later for lane in beside):
            left_out = {lane for lane in lanes if (lane.priority, lane.is_later) == (highest, is_later)} - set(claimed)
            assert not left_out, f"there was room for each of {beside}, and {left_out} got none"


def _lanes(found: Sequence[tuple[Flow, Stage]]) -> set[Lane]:
    return {_lane(*one) for one in found}


def _lane(flow: Flow, stage: Stage) -> Lane:
    return Lane(priority_of(flow, stage), stage.is_later, stage.route)


def _judge_one(model: Model, left: list[tuple[Flow, Stage]], holder: str, claim: Claim) -> Lane:
    found = [one for one in left if (one[0].id, one[1].index) == (claim.flow_id, claim.index)]
    assert found, f"{claim.flow_id}/{claim.index} was claimed and might not be; ready: {[(f.id, s.index) for f, s in left]}"
    flow, stage = found[0]
    highest = max(priority_of(*one) for one in (*owed(model, left), found[0]))
    # What a removed flow of its id left in a lane of another priority may lead to it.
    assert len(model.added[flow.id]) > 1 or priority_of(flow, stage) == highest, (
        f"{claim.flow_id}/{claim.index} was claimed before what has priority {highest}"
    )
    lane = _lane(flow, stage)
    if not flow.has_ghosts and not stage.gives_way:
        earlier = [
            (other.id, one.index)
            for other, one in left
            if _lane(other, one) == lane and one.place < stage.place
            if not other.has_ghosts and not one.gives_way
        ]
        assert not earlier, f"{claim.flow_id}/{claim.index} was claimed before {earlier}, which were ready before"
    model.claim(flow, stage, holder, claim.token)
    seen = (claim.attempt, claim.crashes, claim.priority, claim.route, claim.deadline_in_ms is not None)
    assert seen == (stage.attempt, stage.crashes, flow.priority, stage.route, flow.has_deadline), "the claim says something else"
    if not stage.is_item:
        wanted = {binding.child: flow.stages[binding.child].result for binding in stage.plan.bindings}
        assert claim.results == wanted, f"{claim.flow_id}/{claim.index} got {claim.results} of its children, not {wanted}"
        assert claim.literals == b""
    else:
        assert claim.literals == msgspec.msgpack.encode({"x": stage.index}), "an item got another's arguments"
    return lane
