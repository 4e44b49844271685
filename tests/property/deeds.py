"""What may happen to flows, each on the server and in the model: they are added, lose processes, are due, are steered."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.duties import Rescuer, rescue
from flowq.engine.flow.again import chosen_again
from flowq.errors import FlowConflict
from flowq.model.items import ITEMS, item_name, stage_of
from flowq.model.plan import Plan
from flowq.model.restart import restart
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.store.connection import Connection
from flowq.store.pauses import Pauses
from flowq.store.remembered import remembered_decoder
from flowq.store.snapshots import Snapshots
from flowq.store.wire import again_of
from tests.property.comparison import member_of
from tests.property.exchanges import FLOWS, Exchanges
from tests.property.flows import ENDED, OPEN, Flow, Stage
from tests.property.hands import Hand
from tests.property.histories import HOUR_MS
from tests.property.operations import Add, Close, Retry, Steer

_pack = msgspec.msgpack.encode
LETTER = {
    "scheduled": "s", "ready": "r", "running": "x", "paused": "p", "closing": "z", "failing": "y",
    "completed": "c", "failed": "f", "cancelled": "k",
}  # fmt: skip


class Deeds(Exchanges):
    """One method for each."""

    def __init__(self, connection: Connection, namespace: str, plans: Sequence[Plan]) -> None:
        super().__init__(connection, namespace)
        self.plans = plans
        self._due = 0
        self._names = 0

    async def new_hand(self) -> Hand:
        """Another process."""
        self._names += 1
        hand = Hand(self.store, f"hand.{self._names}")
        await hand.begin()
        return hand

    async def add(self, add: Add) -> None:
        """Adds a flow, or adds it again."""
        flow_id, plan = FLOWS[add.flow], self.plans[add.plan]
        if add.is_anew:
            await self._drop(flow_id)
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

    async def crash(self, number: int, how: str) -> None:
        """A process is gone, and another one comes."""
        hand = self.hands[number]
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
        self.hands[number] = await self.new_hand()

    async def due_now(self, number: int) -> None:
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
        if flow is not None and isinstance(what, int):
            await self._end_timers(flow, what)
        self._due += 1
        assert await self.store.connection.command("ZADD", f"{tag}:due", "XX", "CH", self._due, f"{what}:{flow_id}") == 1
        self.model.due.append((flow_id, what))

    async def _end_timers(self, flow: Flow, index: int) -> None:
        stage = flow.at(index)
        if stage is None or stage.state != "suspended":
            return
        (data,) = await self.store.connection.command("HMGET", self.store.keys.flow(flow.id), f"z{index}")
        known, over = remembered_decoder.decode(data), {wait.timer for wait in stage.waits if wait.timer}
        flat = [part for timer, end in known.ends.items() for part in (timer, 1 if timer in over else end)]
        known.timers = flat
        await self.store.connection.command("HSET", self.store.keys.flow(flow.id), f"z{index}", _pack(known))
        stage.timers |= dict.fromkeys(over, "over")

    async def steer(self, steer: Steer) -> None:
        """Somebody cancels, pauses, resumes or prunes a flow."""
        flow_id = self.ids[steer.flow % len(self.ids)]
        flow = self.model.flows.get(flow_id)
        match steer.verb:
            case "cancel":
                await self._cancel(flow_id)
            case "drop":
                await self._drop(FLOWS[steer.flow % len(FLOWS)])
            case "prune":
                await self.prune(one_of(steer.flow, self._ended(FLOWS), FLOWS))
            case "fell":
                await self.fell()
            case "pause" | "resume":
                pauses = Pauses(self.store)
                may = flow is not None and flow.state in (*OPEN, "scheduled")
                word = await (pauses.pause("flow", flow_id, "") if steer.verb == "pause" else pauses.resume("flow", flow_id))
                assert word == ("unknown" if flow is None else f"{steer.verb}d" if may else LETTER[flow.state])
                if flow is not None and may:
                    (self.model.pause if steer.verb == "pause" else self.model.resume)(flow)

    async def _cancel(self, flow_id: str) -> None:
        flow = self.model.flows.get(flow_id)
        word = await self.store.cancel(flow_id, "why", 0 if flow is None else len(flow.stages))
        if flow is None:
            expected = "unknown"
        elif flow.state in ENDED:
            expected = LETTER[flow.state]
        else:
            self.model.close(flow, "why")
            expected = flow.state
        assert word == expected

    async def _drop(self, flow_id: str) -> None:
        """Who runs a stage of it has not heard of it yet."""
        await self._cancel(flow_id)
        await self.prune(flow_id)

    def _ended(self, ids: Sequence[str]) -> list[str]:
        return [flow.id for flow in self.model.flows.values() if flow.id in ids and flow.state in ENDED]

    async def prune(self, flow_id: str) -> None:
        """Its retention is over. What stands beneath others is nowhere found to be pruned."""
        flow = self.model.flows.get(flow_id)
        entry = (flow.plan.digest if flow is not None else "?" * 16).encode() + flow_id.encode()
        before_ms = await self.views.now() + HOUR_MS
        removed = await self.store.prune(self.store.keys.tag_of(flow_id), before_ms, [entry])
        assert removed == (flow is not None and flow.state in ENDED), "what was pruned"
        if flow is not None:
            self.model.prune(flow)

    async def fell(self) -> None:
        """What outlived its root is removed."""
        for tag in self.store.partitions:
            while (await self.suspensions.fell(tag, all_now=True)).is_more:
                pass
        self.model.fell()

    async def hold(self, what: str, *, is_resumed: bool) -> None:
        """Somebody pauses or resumes a queue or a pipeline."""
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

    async def retry(self, retry: Retry) -> None:
        """Somebody runs an ended flow again."""
        ended = self._ended(self.ids)
        # What is named of maps is seldom theirs by chance.
        mapped = [flow_id for flow_id in ended if any(stage.has_items for stage in self.model.flows[flow_id].stages)]
        flow_id = one_of(retry.flow, mapped if mapped and retry.above % 2 else ended, self.ids)
        flow = self.model.flows.get(flow_id)
        if flow is None or flow.state not in ENDED:
            return
        stages, maps, alone = lost_of(flow)
        named = self._named(flow, retry.above)
        if named is not None and named.is_item:
            of_map = flow.stages[stage_of(named.index)]
            maps[of_map.index] = [named.index % ITEMS]
            alone |= {of_map.index} if of_map.has_enough else set()
        elif named is not None:
            stages.append(named.index)
            maps.pop(named.index, None)
        name = None
        if named is not None:
            stage_name = flow.plan.stages[stage_of(named.index)].name
            name = item_name(stage_name, named.index) if named.is_item else stage_name
        is_retried = False
        while not is_retried:  # what was left of maps that run again is stopped first
            snapshot = await Snapshots(self.store, self.views).snapshot(flow_id)
            chosen = chosen_again(snapshot, flow.plan, name, {})
            if not chosen.stages and not chosen.maps:
                assert {*stages, *maps} == set(), "a retry finds nothing to do"
                return
            restarted = restart(flow.plan, [stage.state for stage in snapshot.graph], chosen.stages, chosen.maps, chosen.alone)
            is_retried = await self.store.retry(flow_id, snapshot.seq, again_of(flow.plan, restarted))
        self.model.retry_by_hand(flow, stages, maps, alone)
        self.model.settle()

    def _named(self, flow: Flow, number: int) -> Stage | None:
        if not number:
            return None
        every = [*(item for stage in flow.stages if stage.has_items for item in stage.items), *flow.stages]
        return every[(number - 1) % len(every)]

    async def close(self, close: Close) -> None:
        """The duty looks at one thing that is being closed, or at all."""
        closing = sorted(self.model.closing)
        if closing and close.what:
            closing = [closing[(close.what - 1) % len(closing)]]
        for flow_id, what in closing:
            await finish_closing(self.store, member_of(flow_id, what))
            self.model.finish_closing(flow_id, what)


def one_of(number: int, wanted: Sequence[str], ids: Sequence[str]) -> str:
    """One of those that something can be done to, mostly; or any other."""
    some = wanted if wanted and number % 4 else ids
    return some[number % len(some)]


def lost_of(flow: Flow) -> tuple[list[int], dict[int, list[int]], set[int]]:
    """What a retry runs again without being told: stages, and items of maps.

    Of a map all that have not completed; or, third, one alone: enough had completed when it was named, and it failed then.
    """
    lost = [stage for stage in flow.stages if stage.state in ("failed", "cancelled")]
    maps: dict[int, list[int]] = {stage.index: [] for stage in lost if stage.has_items}
    again = {index: first for index in maps if flow.stages[index].has_enough and (first := flow.stages[index].first_failed)}
    maps |= {index: [first.index % ITEMS] for index, first in again.items()}
    return [stage.index for stage in lost if not stage.has_items], maps, set(again)
