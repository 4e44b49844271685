"""What running stages and people do to flows beneath others, on the server and in the model: spawning, and signals."""

from __future__ import annotations

import msgspec

from flowq.engine.duties.closing import finish_closing
from flowq.engine.flow.spawned import retry_flow
from flowq.errors import FlowConflict, FlowNotFound
from flowq.model.items import ITEMS, stage_of
from flowq.model.names import depth_of, spawned_id
from flowq.model.outcome import Claim
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.store.suspensions import Spawned, Spawner
from tests.property.deeds import LETTER, Deeds, lost_of, one_of
from tests.property.flows import ENDED, Flow
from tests.property.hands import SIGNAL, Hand, may_wait
from tests.property.operations import Ending, Signal, Spawn
from tests.property.world import ITSELF

_pack = msgspec.msgpack.encode
# Beneath a root; and flows in all.
_DEPTH_MAX, _FLOWS_MAX = 2, 12


class Spawning(Deeds):
    """One method for each."""

    async def spawn(self, spawn: Spawn) -> None:
        """A run spawns a flow as `context().spawn` does, and goes on as that says: it waits, or has its result or its failure."""
        hand = self.hands[spawn.actor]
        runs = [claim for claim in hand.claims if self._may_spawn(claim)]
        if not runs:
            return
        claim = runs[spawn.run % len(runs)]
        if (child_id := self._child_of(claim, spawn.key)) is None:
            return
        ending = await self._spawned(hand, claim, child_id, spawn)
        if ending is not None and spawn.then is not None:
            ending = spawn.then if ending == "await" else ending
            await self.exchange(hand, self.store.keys.tag_of(child_id), [(claim, ending)], 0, ())

    async def signal(self, signal: Signal) -> None:
        """Somebody hands over a value."""
        going_on = [flow.id for flow in self.model.flows.values() if flow.state not in ENDED]
        await self.hand_over(one_of(signal.flow, going_on, self.ids), _pack(signal.value))

    async def hand_over(self, flow_id: str, value: bytes) -> None:
        """The same, of the flow with this id."""
        flow = self.model.flows.get(flow_id)
        expected = self.model.signal(flow, SIGNAL, value) if flow is not None else "unknown"
        assert await self.suspensions.signal(flow_id, SIGNAL, value) == expected, f"a signal to {flow_id}"

    def _may_spawn(self, claim: Claim) -> bool:
        flow = self.model.flows.get(claim.flow_id)
        # Another flow may have its id since.
        is_known = flow is not None and stage_of(claim.index) < len(flow.plan.stages)
        return flow is not None and is_known and may_wait(flow.plan.stages[stage_of(claim.index)], claim.index)

    def _child_of(self, claim: Claim, key: int) -> str | None:
        stage = self.model.flows[claim.flow_id].plan.stages[stage_of(claim.index)]
        child_id = spawned_id(claim.flow_id, stage.name, f"{claim.index // ITEMS * 10 + claim.index % ITEMS}.{key}")
        if child_id not in self.ids:
            if depth_of(child_id) > _DEPTH_MAX or len(self.ids) >= _FLOWS_MAX:
                return None
            self.ids.append(child_id)
        return child_id

    async def _spawned(self, hand: Hand, claim: Claim, child_id: str, spawn: Spawn) -> Ending | None:
        """What the run goes on with."""
        plan, inputs = self.plans[spawn.plan], _pack(spawn.inputs)
        try:
            run = (await self.suspensions.memory(claim.flow_id, claim.index)).run
        except FlowNotFound:
            return None
        spec: FlowSpec[object] = FlowSpec(plan, {}, inputs, options=FlowOptions(id=child_id, priority=claim.priority))
        spawner = Spawner(*claim.run, run, claim.attempt)
        child = Flow(child_id, plan, inputs, claim.priority, begins_later=False, has_deadline=False)
        word = self.model.spawn(claim.flow_id, claim.index, claim.token, run, claim.attempt, child)
        try:
            found = await self.suspensions.spawn(child_id, spec, spawner)
        except FlowConflict:
            assert word == "conflict", f"{child_id} is {word}, and was taken for another"
            return "fatal"
        assert word == "stale" if found is None else word in ("added", "found"), f"{child_id} is {word}, not {found}"
        return None if found is None else await self._awaited(hand, claim, found, spawner, self.model.flows[child_id])

    async def _awaited(self, hand: Hand, claim: Claim, found: Spawned, spawner: Spawner, child: Flow) -> Ending | None:
        assert child.link is not None
        is_own = (child.link.run, child.link.attempt) == (spawner.run, spawner.attempt)
        assert (found.status, found.is_of_this_attempt) == (LETTER[child.state], is_own), f"{child.id}: what was found"
        if child.state == "closing" and not is_own:
            await finish_closing(self.store, child.id)
            self.model.finish_closing(child.id, ITSELF)
        if child.state == "completed":
            return None
        if child.state in ("failed", "cancelled"):
            # Of this attempt it is an error; one of an earlier attempt is run again.
            if is_own:
                return "error"
            await self._retried(child, spawner)
            self.model.adopt(child, spawner.run, spawner.attempt)
        hand.spawned.setdefault(claim.run, []).append(child.id)
        return "await"

    async def _retried(self, child: Flow, spawner: Spawner) -> None:
        stages, maps, alone = lost_of(child)
        # It has changed when stragglers of its maps were stopped first.
        while (word := await retry_flow(self.store, child.id, spawner, Timing())) == "changed":
            pass
        assert word == "retried", f"{child.id}: whether it is run again"
        self.model.retry_by_hand(child, stages, maps, alone)
        self.model.settle()
