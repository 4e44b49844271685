"""Finishes what scripts only begin, because it takes as long as a flow is large: closing flows, maps that
ended early, retries of many stages."""

from __future__ import annotations

from flowq.store.maps import disband
from flowq.store.store import Store
from flowq.store.views import Views


async def finish_closing(store: Store, member: str) -> None:
    """Finishes one entry of the index of what is closing; may be repeated, and done by several at once.

    Args:
        store: where it is.
        member: a flow's id; `*stage:flow` for a map; `+flow` for one whose stages are made to run again.

    Raises:
        CorruptState: the flow can't be read.
    """
    if member.startswith("+"):
        await store.finish_retry(member[1:])
        return
    if member.startswith("*"):
        stage, _, flow_id = member[1:].partition(":")
        await disband(store, flow_id, int(stage))
        return
    await store.finish_closing(member, await Views(store).stages_of(member))
