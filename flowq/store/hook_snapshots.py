"""Reads what runs after the end of a flow, for the flow's own snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from flowq.errors import FlowNotFound
from flowq.model.hooks import due_member, hooks_id, may_have_hooks
from flowq.model.snapshot import FlowSnapshot, HooksSnapshot
from flowq.model.states import FINAL
from flowq.store.keys import CLOSING
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES
from flowq.store.wire import Head


async def hooks_after(
    store: Store, flow_id: str, digest: str, head: Head, snapshot: Callable[[str], Awaitable[FlowSnapshot]]
) -> HooksSnapshot | None:
    """The hooks of a flow's latest end; None: it has none, or has not ended yet.

    Args:
        store: where it is.
        flow_id: the flow.
        digest: its plan's.
        head: its head.
        snapshot: reads a flow.
    """
    if not may_have_hooks(digest):
        return None
    has_ended = FLOW_STATES[head.status] in FINAL and head.ended_at
    # A flow gets the number of its next run when all of a retry in parts is done.
    run = head.run if has_ended or head.status == "o" else head.run - 1
    if run < 1:
        return None
    name = hooks_id(flow_id, run)
    try:
        found = await snapshot(name)
    except FlowNotFound:
        member = due_member(flow_id, run)
        is_due = await store.connection.command("ZSCORE", store.keys.tag_of(flow_id) + CLOSING, member) is not None
        return HooksSnapshot(id=name) if is_due else None
    return HooksSnapshot(id=name, state=found.state, seq=found.seq, stages=found.graph)
