"""What processes and the server say to each other, on the server and in the model: the outcomes of runs, and claims."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from flowq.model.items import stage_of
from flowq.model.outcome import Claim, Complete, Expand, Fail, Outcome, Suspend
from flowq.model.outcome import Retry as Retried
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views
from flowq.store.wants import Wants
from tests.property.claims import judge
from tests.property.flows import ENDED
from tests.property.hands import Hand, bytes_of, outcome_of
from tests.property.model import Model
from tests.property.operations import Ending

FLOWS = ("f0", "f1", "f2", "f3")


class Exchanges:
    """A namespace that is played in, and its model.

    Attributes:
        ids: of all flows there may be; those that stages spawned come behind the others.
        hands: the processes.
        runs: all that was ever claimed.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.store = Store(connection, namespace)
        self.model = Model()
        self.views = Views(self.store)
        self.suspensions = Suspensions(self.store)
        self.ids: list[str] = list(FLOWS)
        self.hands: list[Hand] = []
        self.runs: list[Claim] = []

    def here(self, tag: str) -> Callable[[str], bool]:
        """Tells whether a flow is in this partition."""
        return lambda flow_id: self.store.keys.tag_of(flow_id) == tag

    async def exchange(
        self,
        hand: Hand,
        tag: str,
        reports: Sequence[tuple[Claim, Ending]],
        capacity: int,
        routes: tuple[str, ...],
        *,
        is_repeated: bool = False,
        items: int | None = None,
    ) -> None:
        """A process reports and claims; both do the same."""
        # How long a list is follows from where it is, so that a history is the same each time.
        outcomes = [
            await outcome_of(
                self.store,
                claim,
                ending,
                (claim.index + claim.attempt) % 4 if items is None else items,
                hand.spawned.get(claim.run, ()),
            )
            for claim, ending in reports
        ]
        if hand.holds_suspect:
            capacity = 0
        suspects = tuple(f"{route}!" for route in routes) if not hand.claims else ()
        hand.seq += 1
        wants = [Wants(-1, routes, suspects)] if capacity else []
        arguments = (tag, hand.id, 0, hand.seq, secrets.token_hex(4), outcomes, (), wants)
        paused = [flow for flow in self.model.flows.values() if flow.state == "paused"]
        answer = await self.store.exchange(*arguments, capacity, parks=False)
        assert answer is not None, "a process that lives was given up"
        words = {verdict.position: verdict.word for verdict in answer.verdicts}
        self._report(hand, reports, outcomes, words)
        self.model.promote(self.here(tag))
        self.model.settle()
        self.model.let_go = [flow for flow in paused if flow.state in ENDED]
        judge(self.model, self.here(tag), hand.id, routes, suspects, capacity, answer.claims)
        hand.claims += answer.claims
        self.runs += answer.claims
        told = [one for one in self.model.told[hand.id] if self.store.keys.tag_of(one[0]) == tag]
        assert sorted(answer.cancelled) == sorted(told), "who runs what was cancelled was told something else"
        self.model.told[hand.id] = [one for one in self.model.told[hand.id] if one not in told]
        for one in told:
            hand.leave(one)
        if is_repeated:
            again = await self.store.exchange(*arguments, capacity, parks=False)
            assert again is not None
            self._report(hand, reports, outcomes, {verdict.position: verdict.word for verdict in again.verdicts})
            assert _runs(again.claims) == _runs(answer.claims), "asked again, other stages were claimed"
            assert set(told) <= set(again.cancelled), "asked again, it was not told what was cancelled"

    def _report(
        self, hand: Hand, reports: Sequence[tuple[Claim, Ending]], outcomes: Sequence[Outcome], words: dict[int, str]
    ) -> None:
        for position, ((claim, ending), outcome) in enumerate(zip(reports, outcomes, strict=True)):
            verb = type(outcome).__name__.lower().removesuffix("item")
            allowed = self.model.verdicts(claim.flow_id, claim.index, claim.token, verb)
            word = words.get(position, "")
            assert word in allowed, f"the report {verb} of {claim.flow_id}/{claim.index} was answered {word!r}, not {allowed}"
            is_left = word == "stale" and not self.model.is_run_by(hand.id, claim.flow_id, claim.index)
            if is_left or word in ("", "late", "gone"):
                self.model.held[hand.id].discard((claim.flow_id, claim.index))
            hand.claims = [one for one in hand.claims if one.run != claim.run]
            if not word:
                self._apply(claim, ending, outcome)

    def _apply(self, claim: Claim, ending: Ending, outcome: Outcome) -> None:
        flow = self.model.flows[claim.flow_id]
        stage = flow.at(claim.index)
        assert stage is not None
        match ending:
            case _ if isinstance(outcome, Suspend):
                self.model.suspend(flow, stage, outcome.waits, outcome.seen)
            case "complete" | "skip" if isinstance(outcome, Expand):
                self.model.expand(flow, stage, outcome.count)
            case "complete" | "skip" if isinstance(outcome, Complete):
                verb = "skipped" if ending == "skip" and not stage.is_item else "completed"
                self.model.complete(flow, stage, bytes_of(outcome.result), verb)
            case "error" if stage.attempt < stage.plan.attempts:
                assert isinstance(outcome, Retried), "attempts are left"
                self.model.retry(flow, stage, is_free=False)
            case "later":
                assert isinstance(outcome, Retried)
                self.model.retry(flow, stage, is_free=True)
            case "release" | "await" | "sleep" | "ask" | "ask briefly" | "ask again":
                self.model.give_back(flow, stage)
            case _:
                assert isinstance(outcome, Fail), "no attempts are left"
                index = stage_of(stage.index)
                bearing = any(index in flow.stages[parent].plan.tolerates for parent in stage.plan.parents)
                self.model.fail(flow, stage, outcome.cause, bytes_of(outcome.result) if bearing else None)


def _runs(claims: Sequence[Claim]) -> list[tuple[object, ...]]:
    return sorted((claim.flow_id, claim.index, claim.token.nonce, claim.token.fence, claim.attempt) for claim in claims)
