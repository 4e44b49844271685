"""The verbs that lead to no other state, in every state of a stage: to add its flow again, tell progress, pause and prune.

Those that lead from one state to another are walked through all states in tests/store/test_transitions.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import get_args

import pytest

from flowq import FlowProducer
from flowq.errors import FlowNotFound
from flowq.model.outcome import Progress
from flowq.model.snapshot import FlowSnapshot
from flowq.model.states import FINAL, StageState
from tests.store.acting import Actor
from tests.store.test_transitions import STATES, Walk

pytestmark = pytest.mark.anyio


class Still:
    """A flow of which the second stage is in some state, and what is done to it."""

    def __init__(self, producer: FlowProducer, walk: Walk) -> None:
        self.producer, self.walk, self.store = producer, walk, walk.store
        self.flow = producer.flow("f1")
        self.verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "add": self.add, "progress": self.progress, "pause": self.pause, "resume": self.resume, "prune": self.prune,
        }  # fmt: skip

    async def add(self) -> None:
        (added,) = await self.store.submit([("f1", self.walk.spec)])
        assert not added.is_new

    async def progress(self) -> None:
        await self.walk.actor.exchange(tag=self.walk.tag, progress=[Progress(*self.walk.claim.run, 0.5, "half")])

    async def pause(self) -> None:
        await self.flow.pause()

    async def resume(self) -> None:
        await self.flow.pause()
        await self.flow.resume()

    async def prune(self) -> None:
        await self.producer.prune(pipeline=(await self.flow.inspect()).pipeline)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("verb", ["add", "progress", "pause", "resume", "prune"])
async def test_a_verb_of_the_flow_changes_the_state_of_no_stage(producer: FlowProducer, verb: str, state: str) -> None:
    store = producer._open.store
    walk = Walk(store, await Actor(store).begin(), waits=False)
    still = Still(producer, walk)
    await walk.into(state)
    before = await still.flow.inspect()
    await still.verbs[verb]()
    if verb == "prune" and before.is_final:
        with pytest.raises(FlowNotFound):
            await still.flow.inspect()
        return
    after = await still.flow.inspect()
    assert [stage.state for stage in after.graph] == [stage.state for stage in before.graph]
    assert after.state == expected_of(verb, before)
    assert after.stage("s-1").progress == (0.5 if (verb, state) == ("progress", "running") else before.stage("s-1").progress)
    if verb in ("add", "progress", "prune") or before.is_final:
        assert after.seq == before.seq, "what changes nothing is no event"


def expected_of(verb: str, before: FlowSnapshot) -> str:
    return "paused" if verb == "pause" and not before.is_final else before.state


def test_all_states_are_walked() -> None:
    assert set(STATES) == set(get_args(StageState))
    assert set(STATES) > FINAL
