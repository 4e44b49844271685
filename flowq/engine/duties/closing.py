"""Finishes what scripts only begin, because it takes as long as a flow is large: closing flows, maps that ended early, retries of
many stages, and adding what runs after the end of a flow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from flowq.engine.duties.hooks import add_hooks, add_hooks_of
from flowq.errors import CorruptState, FlowNotFound, FlowqError
from flowq.store.maps import disband
from flowq.store.store import Store
from flowq.store.suspensions import close_orphans
from flowq.store.views import Views


async def cancel(store: Store, flow_id: str, reason: str) -> str:
    """Cancels a flow and all beneath it, and adds what runs after its end; the word of `Store.cancel`.

    Raises:
        FlowNotFound: it does not exist (any more).
    """
    header = await Views(store).header(flow_id)
    beneath: list[str] = []
    word = await store.cancel(flow_id, reason, header.stages, beneath)
    if word == "unknown":
        raise FlowNotFound(flow_id)
    await _finish_each(store, beneath)
    with contextlib.suppress(FlowqError):  # a duty of workers adds it then
        await add_hooks_of(store, flow_id)
    return word


async def finish_closing(store: Store, member: str) -> None:
    """Finishes one entry of the index of what is closing; may be repeated, and done by several at once.

    Args:
        store: where it is.
        member: a flow's id; `*stage:flow` for a map; `+flow` for one whose stages are made to run again; `^run:flow` for what
            runs after the end of a flow; `/flow` for what stands beneath one that has ended.

    Raises:
        CorruptState: the flow can't be read.
    """
    if member.startswith("+"):
        await store.finish_retry(member[1:])
        return
    if member.startswith("*"):
        stage, _, flow_id = member[1:].partition(":")
        await disband(store, flow_id, int(stage))
        await _close_orphans(store, flow_id)
        return
    if member.startswith("/"):
        await _close_orphans(store, member[1:])
        return
    if member.startswith("^"):
        await add_hooks(store, member)
        return
    beneath: list[str] = []
    await store.finish_closing(member, await Views(store).stages_of(member), beneath)
    await _finish_each(store, beneath)
    await add_hooks_of(store, member)


async def _close_orphans(store: Store, flow_id: str) -> None:
    await _finish_each(store, [child async for child in close_orphans(store, flow_id)])


async def _finish_each(store: Store, flow_ids: Iterable[str]) -> None:
    """At once, not when the duty comes by: what runs there is to stop. Should this process die here, the duty does it."""
    for flow_id in flow_ids:
        with contextlib.suppress(CorruptState):  # one that is damaged must not hold up the others; the duty tells of it
            await finish_closing(store, flow_id)
