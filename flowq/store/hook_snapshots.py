"""Reads what runs after the end of a flow, for the flow's own snapshot; and of which flows that has not ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from flowq.errors import FlowNotFound
from flowq.model.hooks import due_member, hooks_id, may_have_hooks
from flowq.model.snapshot import FlowSnapshot, HooksSnapshot
from flowq.model.states import FINAL
from flowq.store.keys import CLOSING
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES, Views
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


async def hooking(store: Store, flow_ids: Sequence[str]) -> set[str]:
    """Those of these flows of which hooks are to be added, or have not ended, after whichever of their runs.

    Args:
        store: where they are.
        flow_ids: flows that may have hooks.
    """
    views = Views(store)
    heads = await views.heads(list(flow_ids))
    runs = [
        (flow_id, run)
        for flow_id, known in zip(flow_ids, heads, strict=True)
        if known is not None
        for run in range(1, known[1].run + 1)
    ]
    hooks = await views.heads([hooks_id(flow_id, run) for flow_id, run in runs])
    due = await store.connection.readable(
        *(("ZSCORE", store.keys.tag_of(flow_id) + CLOSING, due_member(flow_id, run)) for flow_id, run in runs)
    )
    return {
        flow_id
        for (flow_id, _), known, score in zip(runs, hooks, due, strict=True)
        if score is not None or (known is not None and not known[1].ended_at)
    }
