"""Plays a history on a real server and in the model, and compares the two after each operation."""

from __future__ import annotations

import msgspec

from flowq.engine.duties.duties import rescue
from flowq.model.outcome import Claim
from flowq.store.connection import Connection
from tests.property.comparison import Reality, compare
from tests.property.exchanges import FLOWS
from tests.property.flows import ENDED
from tests.property.hands import ROUTES
from tests.property.operations import (
    Add,
    Close,
    Crash,
    Due,
    Ending,
    History,
    Hold,
    Late,
    Operation,
    Retry,
    Signal,
    Spawn,
    Steer,
    Work,
)
from tests.property.spawning import Spawning

_pack = msgspec.msgpack.encode
_HELD = ("queue:default", "queue:slow", "pipeline:one", "pipeline:other")
# More than any history needs to come to its end.
_ROUNDS_MAX = 300


class Player(Spawning):
    """One history.

    Attributes:
        played: how many operations were played.
    """

    def __init__(self, connection: Connection, namespace: str, history: History) -> None:
        super().__init__(connection, namespace, history.plans)
        self.history = history
        self.played = 0
        self._reality = Reality(self.store, self.ids)

    async def play(self) -> None:
        """Plays it, brings every flow to its end, and removes all flows. Raises AssertionError where server and model differ."""
        await self.store.open(self.history.partitions)
        self.hands = [await self.new_hand(), await self.new_hand()]
        for operation in self.history.operations:
            await self._operate(operation)
            self.played += 1
            await compare(self._reality, self.model, self._names_of_hands(), is_ordered=not isinstance(operation, Crash))
        await self._finish()
        await self._remove()

    async def _operate(self, operation: Operation) -> None:
        match operation:
            case Add():
                await self.add(operation)
            case Work():
                await self._work(operation)
            case Late() if self.runs:
                # Those that somebody else runs now are the interesting ones.
                runs = [claim for claim in self.runs if self._is_taken_over(claim)] or self.runs
                await self._late(runs[operation.run % len(runs)], operation.ending)
            case Crash():
                await self.crash(operation.actor, operation.how)
            case Due():
                await self.due_now(operation.what)
            case Steer():
                await self.steer(operation)
            case Hold():
                await self.hold(_HELD[operation.what], is_resumed=operation.is_resumed)
            case Retry():
                await self.retry(operation)
            case Spawn():
                await self.spawn(operation)
            case Signal():
                await self.signal(operation)
            case Close():
                await self.close(operation)
            case _:
                pass

    def _names_of_hands(self) -> list[str]:
        return [hand.id for hand in self.hands]

    async def _work(self, work: Work) -> None:
        hand = self.hands[work.actor]
        tag = self.store.partitions[work.partition % len(self.store.partitions)]
        mine = [claim for claim in hand.claims if self.store.keys.tag_of(claim.flow_id) == tag]
        reports: list[tuple[Claim, Ending]] = []
        for number, ending in work.reports if mine else ():
            claim = mine[number % len(mine)]
            if claim not in [reported for reported, _ in reports]:
                reports.append((claim, ending))
        if not work.reports:
            reports = [(claim, "complete") for claim in mine]
        routes = tuple(route for number, route in enumerate(ROUTES, 1) if number != work.without)
        await self.exchange(hand, tag, reports, work.capacity, routes, is_repeated=work.is_repeated)

    def _is_taken_over(self, claim: Claim) -> bool:
        flow = self.model.flows.get(claim.flow_id)
        stage = flow.at(claim.index) if flow is not None else None
        return stage is not None and stage.state == "running" and stage.token != claim.token

    async def _late(self, claim: Claim, ending: Ending) -> None:
        """Who still runs it reports it; a run that is over is reported by somebody."""
        hand = next((hand for hand in self.hands if claim in hand.claims), self.hands[0])
        await self.exchange(hand, self.store.keys.tag_of(claim.flow_id), [(claim, ending)], 0, ())

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self) -> None:
        """Brings every flow to its end: nothing may be stuck."""
        for what in _HELD:
            await self.hold(what, is_resumed=True)
        for flow_id, flow in self.model.flows.items():
            if flow.state == "paused":
                await self.steer(Steer("resume", self.ids.index(flow_id)))
        for _ in range(_ROUNDS_MAX):
            if self._is_over():
                break
            while self.model.waiting - set(self.model.due):
                await self.due_now(0)
            await self.fell()
            await self.close(Close())
            for flow in self.model.flows.values():
                if flow.listeners and flow.state not in ENDED:
                    await self.hand_over(flow.id, b"")
            for hand in self.hands:
                for tag in self.store.partitions:
                    mine: list[tuple[Claim, Ending]] = [
                        (claim, "complete") for claim in hand.claims if self.store.keys.tag_of(claim.flow_id) == tag
                    ]
                    await self.exchange(hand, tag, mine, 10, ROUTES)
            await compare(self._reality, self.model, self._names_of_hands())
        assert self._is_over(), f"stuck: { {flow.id: flow.state for flow in self.model.flows.values()} }"

    def _is_over(self) -> bool:
        is_ended = all(flow.state in ENDED for flow in self.model.flows.values())
        return is_ended and not self.model.waiting and not self.model.closing and not any(hand.claims for hand in self.hands)

    async def _remove(self) -> None:
        """Nothing is left in any index when every flow has ended; nothing at all when they are removed."""
        for hand in self.hands:
            for tag in self.store.partitions:
                await self.exchange(hand, tag, (), 10, ROUTES)
        await self._reality.check_ended(self.model)
        for flow_id in FLOWS:
            await self.prune(flow_id)
        await self.fell()
        for hand in self.hands:
            await rescue(self.store, hand.id, "stopped", is_crash=False)
        await self._reality.check_removed()
