"""How tests look at what runs after the end of a flow."""

from __future__ import annotations

from typing import Any

from flowq import FlowHandle, FlowProducer
from flowq.model.snapshot import FlowSnapshot
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


async def closing(producer: FlowProducer) -> list[str]:
    """What is being closed."""
    return await Views(producer._open.store).closing()
