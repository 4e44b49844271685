"""Plays a history on a real server and in the model, and compares the two after each operation."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import msgspec

from flowq.engine.again import chosen_again
from flowq.engine.duties import Closer, Rescuer, rescue
from flowq.errors import FlowConflict
from flowq.model.items import item_name, stage_of
from flowq.model.outcome import Claim, Complete, Expand, Fail, Outcome
from flowq.model.outcome import Retry as Retried
from flowq.model.restart import restart
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.store.connection import Connection
from flowq.store.pauses import Pauses
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store, Wants
from flowq.store.views import Views
from flowq.store.wire import again_of
from tests.property.claims import judge
from tests.property.comparison import Reality, compare
from tests.property.hands import ROUTES, Hand, bytes_of, outcome_of
from tests.property.histories import HOUR_MS
from tests.property.model import ENDED, FLOW, OPEN, Flow, Model, Stage
from tests.property.operations import Add, Close, Crash, Due, Ending, History, Hold, Late, Operation, Retry, Steer, Work

_pack = msgspec.msgpack.encode
_FLOWS = ("f0", "f1", "f2", "f3")
_HELD = ("queue:default", "queue:slow", "pipeline:one", "pipeline:other")
_LETTER = {"completed": "c", "failed": "f", "cancelled": "k", "failing": "y"}
# More than any history needs to come to its end.
_ROUNDS_MAX = 300


class Player:
    """One history.

    Attributes:
        played: how many operations were played.
    """

    def __init__(self, connection: Connection, namespace: str, history: History) -> None:
        self.store = Store(connection, namespace)
        self.history = history
        self.model = Model()
        self.views = Views(self.store)
        self.played = 0
        self._hands: list[Hand] = []
        self._runs: list[Claim] = []
        self._due = 0
        self._names = 0
        self._reality = Reality(self.store, _FLOWS)

    async def play(self) -> None:
        """Plays it, brings every flow to its end, and removes all flows. Raises AssertionError where server and model differ."""
        await self.store.open(self.history.partitions)
        self._hands = [await self._new_hand(), await self._new_hand()]
        for operation in self.history.operations:
            await self._operate(operation)
            self.played += 1
            await compare(self._reality, self.model, self._names_of_hands(), is_ordered=not isinstance(operation, Crash))
        await self._finish()
        await self._remove()

    async def _operate(self, operation: Operation) -> None:
        match operation:
            case Add():
                await self._add(operation)
            case Work():
                await self._work(operation)
            case Late() if self._runs:
                # Those that somebody else runs now are the interesting ones.
                runs = [claim for claim in self._runs if self._is_taken_over(claim)] or self._runs
                await self._late(runs[operation.run % len(runs)], operation.ending)
            case Crash():
                await self._crash(operation.actor, operation.how)
            case Due():
                await self._due_now(operation.what)
            case Steer():
                await self._steer(operation)
            case Hold():
                await self._hold(_HELD[operation.what], is_resumed=operation.is_resumed)
            case Retry():
                await self._retry(operation)
            case Close():
                await self._close()
            case _:
                pass

    def _here(self, tag: str) -> Callable[[str], bool]:
        return lambda flow_id: self.store.keys.tag_of(flow_id) == tag

    def _names_of_hands(self) -> list[str]:
        return [hand.id for hand in self._hands]

    async def _new_hand(self) -> Hand:
        self._names += 1
        hand = Hand(self.store, f"hand.{self._names}")
        await hand.begin()
        return hand

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _add(self, add: Add) -> None:
        flow_id, plan = _FLOWS[add.flow], self.history.plans[add.plan]
        timing = Timing(HOUR_MS if add.begins_later else 0, 0, 48 * HOUR_MS if add.has_deadline else 0, 0)
        inputs = _pack(add.inputs)
        spec: FlowSpec[object] = FlowSpec(plan, {}, inputs, options=FlowOptions(priority=add.priority, timing=timing))
        known = self.model.flows.get(flow_id)
        try:
            (added,) = await self.store.submit([(flow_id, spec)])
        except FlowConflict:
            assert known is not None, "a new flow was refused"
            assert (known.plan.pipeline, known.inputs) != (plan.pipeline, inputs), "the same flow was refused"
            return
        assert added.is_new == (known is None)
        if known is None:
            flow = Flow(flow_id, plan, inputs, add.priority, begins_later=add.begins_later, has_deadline=add.has_deadline)
            self.model.add(flow)
        else:
            assert (known.plan.pipeline, known.inputs) == (plan.pipeline, inputs), "another flow was taken for the same"

    async def _work(self, work: Work) -> None:
        hand = self._hands[work.actor]
        tag = self.store.partitions[work.partition % len(self.store.partitions)]
        mine = [claim for claim in hand.claims if self.store.keys.tag_of(claim.flow_id) == tag]
        reports: list[tuple[Claim, Ending]] = []
        for number, ending in work.reports if mine else ():
            claim = mine[number % len(mine)]
            if claim not in [reported for reported, _ in reports]:
                reports.append((claim, ending))
        routes = tuple(route for number, route in enumerate(ROUTES, 1) if number != work.without)
        await self._exchange(hand, tag, reports, work.capacity, routes, is_repeated=work.is_repeated)

    def _is_taken_over(self, claim: Claim) -> bool:
        flow = self.model.flows.get(claim.flow_id)
        stage = flow.at(claim.index) if flow is not None else None
        return stage is not None and stage.state == "running" and stage.token != claim.token

    async def _late(self, claim: Claim, ending: Ending) -> None:
        """Who still runs it reports it; a run that is over is reported by somebody."""
        hand = next((hand for hand in self._hands if claim in hand.claims), self._hands[0])
        await self._exchange(hand, self.store.keys.tag_of(claim.flow_id), [(claim, ending)], 0, ())

    async def _crash(self, number: int, how: str) -> None:
        hand = self._hands[number]
        is_alone = len(self.model.held[hand.id]) == 1
        if how == "lost":
            for tag in self.store.partitions:
                await self.store.connection.command("ZADD", f"{tag}:holders", await self.views.now() - 1_000, hand.id)
            await Rescuer(self.store).run_once()
            for tag in self.store.partitions:
                await self.store.connection.command("HSET", f"{tag}:h:{hand.id}", "suspect_at", 0)
            await Rescuer(self.store).run_once()
        else:
            await rescue(self.store, hand.id, "gone", is_crash=how == "killed")
        is_crash = how != "stopped"
        self.model.rescue(hand.id, lambda _: True, is_crash=is_crash, is_lost=how == "lost", was_alone=is_alone)
        answer = await self.store.exchange(self.store.partitions[0], hand.id, 0, 99_999, "n", (), (), (), 0, parks=False)
        assert answer is None, "a process that was given up goes on"
        self._hands[number] = await self._new_hand()

    async def _due_now(self, number: int) -> None:
        """Sets the time of something that waits into the past: what waiting would do."""
        candidates = sorted(self.model.waiting - set(self.model.due), key=str)
        if not candidates:
            return
        flow_id, what = candidates[number % len(candidates)]
        flow = self.model.flows.get(flow_id)
        if flow is not None and (flow.is_early or flow.state == "scheduled"):
            # Nothing of a flow comes before its beginning.
            what = next(one for one in ("b0", what) if (flow_id, one) in candidates)
        key, tag = self.store.keys.flow(flow_id), self.store.keys.tag_of(flow_id)
        if flow is not None and isinstance(what, str):
            if what[0] == "b":
                await self.store.connection.command("HSET", key, "b", _pack([1, len(flow.parts)]))
                flow.is_early = False
            else:
                head = await self.views.head(flow_id)
                head.deadline_at = 1
                await self.store.connection.command("HSET", key, "m", _pack(head))
        self._due += 1
        assert await self.store.connection.command("ZADD", f"{tag}:due", "XX", "CH", self._due, f"{what}:{flow_id}") == 1
        self.model.due.append((flow_id, what))

    async def _steer(self, steer: Steer) -> None:
        flow_id = _FLOWS[steer.flow % len(_FLOWS)]
        flow = self.model.flows.get(flow_id)
        match steer.verb:
            case "cancel":
                word = await self.store.cancel(flow_id, "why", 0 if flow is None else len(flow.stages))
                if flow is None:
                    expected = "unknown"
                elif flow.state in ENDED:
                    expected = _LETTER[flow.state]
                else:
                    expected = "failed" if flow.state == "failing" else "cancelled"
                    self.model.close(flow, "why")
                assert word == expected
            case "prune":
                entry = (flow.plan.digest if flow is not None else "?" * 16).encode() + flow_id.encode()
                before_ms = await self.views.now() + HOUR_MS
                removed = await self.store.prune(self.store.keys.tag_of(flow_id), before_ms, [entry])
                assert removed == (flow is not None and flow.state in ENDED), "what was pruned"
                if flow is not None:
                    self.model.prune(flow)
            case "pause" | "resume":
                pauses = Pauses(self.store)
                may = flow is not None and flow.state in (*OPEN, "scheduled")
                word = await (pauses.pause("flow", flow_id, "") if steer.verb == "pause" else pauses.resume("flow", flow_id))
                assert word == ("unknown" if flow is None else f"{steer.verb}d" if may else _LETTER[flow.state])
                if flow is not None and may:
                    (self.model.pause if steer.verb == "pause" else self.model.resume)(flow)

    async def _hold(self, what: str, *, is_resumed: bool) -> None:
        kind, _, name = what.partition(":")
        pauses = Pauses(self.store)
        assert kind in ("queue", "pipeline")
        if is_resumed:
            await pauses.resume("queue" if kind == "queue" else "pipeline", name)
            self.model.paused.discard(what)
            for flow in self.model.flows.values():
                flow.has_ghosts |= flow.plan.pipeline == name
        else:
            await pauses.pause("queue" if kind == "queue" else "pipeline", name, "")
            self.model.paused.add(what)

    async def _retry(self, retry: Retry) -> None:
        flow_id = _FLOWS[retry.flow % len(_FLOWS)]
        flow = self.model.flows.get(flow_id)
        if flow is None or flow.state not in ENDED:
            return
        stages = [stage.index for stage in flow.stages if stage.state in ("failed", "cancelled") and not stage.has_items]
        maps: dict[int, list[int]] = {
            stage.index: [] for stage in flow.stages if stage.state in ("failed", "cancelled") and stage.has_items
        }
        # Of a map of which enough items have completed, one that is named runs again alone, and again if it failed then.
        enough = {stage.index: stage for stage in flow.stages if stage.has_items and stage.has_enough}
        alone = {index for index in maps if index in enough and enough[index].first_failed}
        maps |= {index: [first.index % 1_000_000] for index in alone if (first := enough[index].first_failed)}
        named = self._named(flow, retry.above)
        if named is not None and named.is_item:
            maps[stage_of(named.index)] = [named.index % 1_000_000]
            alone |= {stage_of(named.index)} & enough.keys()
        elif named is not None:
            stages.append(named.index)
            maps.pop(named.index, None)
        name = None
        if named is not None:
            stage_name = flow.plan.stages[stage_of(named.index)].name
            name = item_name(stage_name, named.index) if named.is_item else stage_name
        snapshot = await Snapshots(self.store, self.views).snapshot(flow_id)
        chosen = chosen_again(snapshot, flow.plan, name, {})
        if not chosen.stages and not chosen.maps:
            assert {*stages, *maps} == set(), "a retry finds nothing to do"
            return
        restarted = restart(flow.plan, [stage.state for stage in snapshot.graph], chosen.stages, chosen.maps, chosen.alone)
        assert await self.store.retry(flow_id, snapshot.seq, again_of(flow.plan, restarted))
        self.model.retry_by_hand(flow, stages, maps, alone)
        self.model.settle()

    def _named(self, flow: Flow, number: int) -> Stage | None:
        if not number:
            return None
        every = [*(item for stage in flow.stages if stage.has_items for item in stage.items), *flow.stages]
        return every[(number - 1) % len(every)]

    async def _close(self) -> None:
        closing = sorted(self.model.closing)
        await Closer(self.store, self.views).run_once()
        for flow_id, index in closing:
            flow = self.model.flows.get(flow_id)
            if index != FLOW:
                self.model.disband(flow_id, index)
            elif flow is not None and flow.state == "failing":
                self.model.close(flow, "")
            self.model.closing.discard((flow_id, index))

    # ── the conversation ─────────────────────────────────────────────────────────────────────────────────────────

    async def _exchange(
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
        # How long a list is follows from where it is, so that a history is the same each time.
        outcomes = [
            await outcome_of(self.store, claim, ending, (claim.index + claim.attempt) % 4 if items is None else items)
            for claim, ending in reports
        ]
        if hand.holds_suspect:
            capacity = 0
        suspects = tuple(f"{route}!" for route in routes) if not hand.claims else ()
        hand.seq += 1
        wants = [Wants(-1, routes, suspects)] if capacity else []
        arguments = (tag, hand.id, 0, hand.seq, secrets.token_hex(4), outcomes, (), wants)
        answer = await self.store.exchange(*arguments, capacity, parks=False)
        assert answer is not None, "a process that lives was given up"
        words = {verdict.position: verdict.word for verdict in answer.verdicts}
        self._report(hand, reports, outcomes, words)
        self.model.promote(self._here(tag))
        judge(self.model, self._here(tag), hand.id, routes, suspects, capacity, answer.claims)
        self.model.settle()
        hand.claims += answer.claims
        self._runs += answer.claims
        told = [one for one in self.model.told[hand.id] if self.store.keys.tag_of(one[0]) == tag]
        assert sorted(answer.cancelled) == sorted(told), "who runs what was cancelled was told something else"
        self.model.told[hand.id] = [one for one in self.model.told[hand.id] if one not in told]
        for one in told:
            hand.leave(*one)
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
            if word in ("", "late", "gone"):
                self.model.held[hand.id].discard((claim.flow_id, claim.index))
            hand.claims = [one for one in hand.claims if one.run != claim.run]
            if not word:
                self._apply(claim, ending, outcome)

    def _apply(self, claim: Claim, ending: Ending, outcome: Outcome) -> None:
        flow = self.model.flows[claim.flow_id]
        stage = flow.at(claim.index)
        assert stage is not None
        match ending:
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
            case "release":
                self.model.give_back(flow, stage)
            case _:
                assert isinstance(outcome, Fail), "no attempts are left"
                index = stage_of(stage.index)
                bearing = any(index in flow.stages[parent].plan.tolerates for parent in stage.plan.parents)
                self.model.fail(flow, stage, outcome.cause, bytes_of(outcome.result) if bearing else None)

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self) -> None:
        """Brings every flow to its end: nothing may be stuck."""
        for what in _HELD:
            await self._hold(what, is_resumed=True)
        for flow_id, flow in self.model.flows.items():
            if flow.state == "paused":
                await self._steer(Steer("resume", _FLOWS.index(flow_id)))
        for _ in range(_ROUNDS_MAX):
            if self._is_over():
                break
            while self.model.waiting - set(self.model.due):
                await self._due_now(0)
            await self._close()
            for hand in self._hands:
                for tag in self.store.partitions:
                    mine: list[tuple[Claim, Ending]] = [
                        (claim, "complete") for claim in hand.claims if self.store.keys.tag_of(claim.flow_id) == tag
                    ]
                    await self._exchange(hand, tag, mine, 10, ROUTES)
            await compare(self._reality, self.model, self._names_of_hands())
        assert self._is_over(), f"stuck: { {flow.id: flow.state for flow in self.model.flows.values()} }"

    def _is_over(self) -> bool:
        is_ended = all(flow.state in ENDED for flow in self.model.flows.values())
        return is_ended and not self.model.waiting and not self.model.closing and not any(hand.claims for hand in self._hands)

    async def _remove(self) -> None:
        """Nothing is left in any index when every flow has ended; nothing at all when they are removed."""
        for hand in self._hands:
            for tag in self.store.partitions:
                await self._exchange(hand, tag, (), 10, ROUTES)
        await self._reality.check_ended(self.model)
        for flow_id in list(self.model.flows):
            await self._steer(Steer("prune", _FLOWS.index(flow_id)))
        for hand in self._hands:
            await rescue(self.store, hand.id, "stopped", is_crash=False)
        await self._reality.check_removed()


def _runs(claims: Sequence[Claim]) -> list[tuple[object, ...]]:
    return sorted((claim.flow_id, claim.index, claim.token.nonce, claim.token.fence, claim.attempt) for claim in claims)
