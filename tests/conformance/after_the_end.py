"""How tests look at what runs after the end of a flow."""

from __future__ import annotations

import json
from typing import Any

from flowq import Artifact, FlowHandle, FlowProducer
from flowq.engine.duties.duties import Pruner
from flowq.engine.duties.removal import Remover
from flowq.model.keep import Keep
from flowq.model.snapshot import FlowSnapshot
from flowq.settings import KeepSettings
from flowq.store.views import Views
from tests.engine.work import until


async def hooks_ended(flow: FlowHandle[Any], hooks: str = "") -> FlowSnapshot:
    """The flow once its hooks, those of this id if one is given, have ended."""

    def have_ended(snapshot: FlowSnapshot) -> bool:
        known = snapshot.hooks
        return known is not None and known.state in ("completed", "failed", "cancelled") and hooks in ("", known.id)

    return await until(flow, have_ended)


def states(snapshot: FlowSnapshot) -> dict[str, str]:
    """The hooks by what they undo, and their states, in order."""
    assert snapshot.hooks is not None
    return {hook.hook: hook.state for hook in snapshot.hooks.stages}


async def hooks_completed(flow: FlowHandle[Any]) -> None:
    """Returns when the flow's hooks have."""
    assert (hooks := (await hooks_ended(flow)).hooks) is not None
    assert hooks.state == "completed"


async def beneath(producer: FlowProducer, flow: FlowHandle[Any]) -> FlowHandle[Any]:
    """The only flow that this one spawned."""
    (child,) = (await flow.inspect()).spawned
    return producer.flow(child.id)


def pruner_of(producer: FlowProducer, most: Keep = Keep(), **keep: Any) -> Pruner:
    """The duty of a process that begins now; `keep` says what is kept of what it removes."""
    store, storage, settings = producer._open.store, producer.storage, KeepSettings(**keep)
    return Pruner(store, Views(store), Remover(store, lambda: storage, settings), most, settings)


def archived(producer: FlowProducer) -> dict[str, dict[str, Any]]:
    """What stands in the archive, by the ids of the flows."""
    lines: list[dict[str, Any]] = []
    for found in producer.storage.objects("archive/"):
        with producer.storage.open(Artifact(found.key, found.size)) as stream:
            lines += [json.loads(line) for line in stream.read().decode().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines), "each once"
    return {line["id"]: line for line in lines}


async def closing(producer: FlowProducer) -> list[str]:
    """What is being closed."""
    return await Views(producer._open.store).closing()
