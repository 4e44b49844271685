"""Processes that are played by hand: what they hold, and what they would report."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from flowq.engine.run.executor import after_run_error, loaded
from flowq.engine.run.expansion import expanded
from flowq.errors import FlowNotFound, RetryAfter, Unrecoverable
from flowq.model.items import LIST, is_item, item_index, stage_of
from flowq.model.outcome import Claim, Complete, CompleteItem, Outcome, Release, Skip, Suspend, Wait, opaque
from flowq.model.plan import StagePlan
from flowq.store.store import Store
from flowq.store.stored_plan import StoredPlan
from flowq.store.suspensions import Suspensions
from tests.property.histories import HOUR_MS
from tests.property.operations import WAITING, Ending
from tests.store.acting import Actor

# Every process serves all of them; so many that lanes of a priority can be told apart.
ROUTES = ("default:a", "default:b", "slow:a", "slow:b")
# The one signal that stages wait for.
SIGNAL = "go"
_NOTHING = opaque(b"")
_pack = msgspec.msgpack.encode
_numbers = itertools.count(1)


class Hand(Actor):
    """One process, under a new name after each crash."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store, name)
        self.routes = ROUTES
        self.claims: list[Claim] = []
        # What each run waits for, if it waits.
        self.spawned: dict[tuple[str, int, int, str], list[str]] = {}

    @property
    def holds_suspect(self) -> bool:
        """Then nothing else may run beside it."""
        return any(claim.is_suspect for claim in self.claims)

    def leave(self, run: tuple[str, int, int, str]) -> None:
        """It does not run this any more."""
        self.claims = [one for one in self.claims if one.run != run]


async def outcome_of(store: Store, claim: Claim, ending: Ending, items: int, spawned: Sequence[str] = ()) -> Outcome:
    """What a worker would report: put together by the same functions.

    Args:
        store: where it is.
        claim: of the run.
        ending: how it ended.
        items: how many a map finds in its list.
        spawned: the flows that the run waits for, if it waits.
    """
    plan: StoredPlan | None = None
    stage: StagePlan | None = None
    index = stage_of(claim.index)
    try:
        # A plan goes with its last flow, also before who runs a stage of it has read it.
        plan = await store.plan(claim.flow_id, claim.plan)
        stage = await loaded(plan, claim.index)
        match ending:
            case _ if ending in WAITING and may_wait(stage, claim.index):
                return await _suspended(store, claim, ending, spawned)
            case "complete" if stage.mapping is not None:
                elements = [item_index(index, number) for number in range(items)]
                return await expanded(store, claim, stage, plan, stage.mapping, elements)
            case "skip" if not is_item(claim.index):
                nothing = opaque(_pack(None) if stage.mapping is None else LIST)
                return Skip(*claim.run, nothing, _NOTHING, plan.releases(index))
            case "complete" | "skip":
                done = (*claim.run, opaque(_pack(next(_numbers))), _NOTHING, plan.releases(index))
                if not is_item(claim.index):
                    return Complete(*done)
                return CompleteItem(*done, *plan.bearers(index))
            case "error":
                raise RuntimeError("boom")
            case "fatal":
                raise Unrecoverable("no use")
            case "later":
                raise RetryAfter("1h", uses_attempt=False)
            case _:
                return Release(*claim.run)
    except Exception as error:  # what a stage raises is its outcome
        return after_run_error(error, stage, claim, plan)


def may_wait(stage: StagePlan, index: int) -> bool:
    """Who finds the list of a map waits for nothing."""
    return stage.mapping is None or is_item(index)


async def _suspended(store: Store, claim: Claim, ending: Ending, spawned: Sequence[str]) -> Suspend:
    """As a function that begins at its first line again, and finds what it has waited for before."""
    try:
        memory = await Suspensions(store).memory(claim.flow_id, claim.index)
        ends, now = memory.ends, memory.now
    except FlowNotFound:
        ends, now = dict[str, int](), 0
    over = {timer for timer, end in ends.items() if end <= now}

    def wait_until(kind: str, name: str) -> Wait:
        timer = next(timer for number in itertools.count() if (timer := f"{name}#{number}") not in over)
        return Wait(kind, name, timer, 0 if timer in ends else HOUR_MS)

    waits = [Wait("flow", child) for child in spawned]
    match ending:
        case "ask":
            waits.append(Wait("signal", SIGNAL))
        case "ask briefly":
            waits.append(wait_until("signal", SIGNAL))
        case "ask again":
            waits.append(Wait("signal", SIGNAL, refused="not this one"))
        case "await" if spawned:
            pass
        case _:
            waits.append(wait_until("sleep", ""))
    return Suspend(*claim.run, tuple(waits), tuple(timer for timer in over if timer.startswith(SIGNAL) and ends[timer] > 0))


def bytes_of(packed: msgspec.Raw) -> bytes:
    """What `opaque` has wrapped."""
    data = bytes(packed)
    return data[{0xD9: 2, 0xDA: 3, 0xDB: 5}.get(data[0], 1) :]
