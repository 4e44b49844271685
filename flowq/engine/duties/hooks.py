"""Adds what runs after the end of a flow, as a flow of its own: compensations in reverse order, then `finally_`.

Whoever ends a flow puts that into the index of what is closing, in the same step; the script that adds the hooks does so only
while it stands there. So it may be done by many, and again after any crash, and the hooks are added once.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowConflict
from flowq.model.hooks import FlowEnd, due_member, hooks_id, may_have_hooks, named_in
from flowq.model.items import item_index, stage_of
from flowq.model.plan import AT_END, Hook, Plan
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.pipeline.compile import Call, compiled
from flowq.store.keys import CLOSING
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES, Views, cause_of, head_decoder, header_decoder, record_decoder
from flowq.store.wire import Head, Header, group_decoder

log = logging.getLogger("flowq.engine")

_PAGE = 500

_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class _Done(msgspec.Struct, frozen=True, order=True):
    """A stage or item that completed and can be undone. Ordered as they completed; at the same time children before parents."""

    ended_at: int
    stage: int
    index: int
    result: bytes


async def add_hooks(store: Store, member: str) -> None:
    """Adds the hooks that a member of the index of what is closing means; may be repeated.

    Raises:
        CorruptState: the flow, or the member, can't be read.
    """
    try:
        flow_id, run = named_in(member)
    except ValueError as error:
        raise CorruptState(member, "its place among what is closing", str(error)) from None
    tag, key = store.keys.tag_of(flow_id), store.keys.flow(flow_id)
    head_data, header_data, digest = await store.connection.command("HMGET", key, "m", "o", "p")
    if head_data is not None and header_data is not None and digest is not None:
        try:
            head, header = head_decoder.decode(head_data), header_decoder.decode(header_data)
            plan = await (await store.plan(flow_id, digest.decode())).whole()
            if (spec := await _spec(store, flow_id, head, header, plan)) is not None:
                await _submit(store, hooks_id(flow_id, run), spec, head.created_at)
        except (msgspec.DecodeError, LookupError, TypeError) as error:  # bytes that are no msgpack, or are no record of ours
            raise CorruptState(flow_id, "what has to run after its end", f"{type(error).__name__}: {error}") from None
    await store.connection.command("ZREM", tag + CLOSING, member)


async def add_hooks_of(store: Store, flow_id: str) -> None:
    """Adds the hooks of a flow that has just ended, if it has some. Raises CorruptState."""
    head_data, digest = await store.connection.command("HMGET", store.keys.flow(flow_id), "m", "p")
    if digest is None or not may_have_hooks(digest.decode("utf-8", "replace")):
        return
    member = due_member(flow_id, head_decoder.decode(head_data).run)
    if await store.connection.command("ZSCORE", store.keys.tag_of(flow_id) + CLOSING, member) is not None:
        await add_hooks(store, member)


async def _submit(store: Store, flow_id: str, spec: FlowSpec[Any], added_at: int) -> None:
    try:
        await store.submit([(flow_id, spec)])
    except FlowConflict:
        views = Views(store)
        ((digest, head),) = [known for known in await views.heads([flow_id]) if known is not None]
        if head.created_at >= added_at:
            return  # its own: a retry in parts was given up, and nothing ran that these did not follow
        # Left behind by an earlier flow of the same id, which expired. Goes if it has ended; else this is tried again later.
        if not await store.prune(store.keys.tag_of(flow_id), await views.now() + 1, [f"{digest}{flow_id}".encode()]):
            raise CorruptState(flow_id, "its id", "it is taken by the hooks of an earlier flow, which have not ended") from None
        await store.submit([(flow_id, spec)])


async def _spec(store: Store, flow_id: str, head: Head, header: Header, plan: Plan) -> FlowSpec[Any] | None:
    """The flow of the hooks; None: there are none for this end."""
    state = FLOW_STATES[head.status]
    done = [] if state == "completed" else sorted([one async for one in _completed(store, flow_id, plan)], reverse=True)
    hooks: list[tuple[Hook, str, bytes]] = []
    for one in done:
        if (hook := plan.stages[one.stage].compensate) is not None:
            hooks.append((hook, plan.name_of(one.index), one.result))
    if plan.finally_ is not None:
        hooks.append((plan.finally_, AT_END, _pack(_end_of(flow_id, head, plan))))
    if not hooks:
        return None
    calls: list[Call] = []
    for position, (hook, name, _) in enumerate(hooks):
        # One after the other, also after one that failed: what it could not undo must not keep the others from it.
        after = ((position - 1, True),) if position else ()
        calls.append(Call(msgspec.structs.replace(hook.stage, hook=name), (), after))
    literals = {index: _pack({hook.argument: msgspec.Raw(value)}) for index, (hook, _, value) in enumerate(hooks)}
    return FlowSpec(
        compiled(plan.pipeline, calls, (), finish_first=plan.finish_first, keep=plan.keep),
        literals,
        _pack({"flow": flow_id, "run": head.run, "added": head.created_at}),
        output_literal=_pack(None),
        options=FlowOptions(tenant=header.tenant, priority=head.priority),
    )


def _end_of(flow_id: str, head: Head, plan: Plan) -> FlowEnd:
    state = FLOW_STATES[head.status]
    index, cause = cause_of(head)
    if state == "cancelled":
        cause = head.reason
    elif index is not None:
        cause = f"{plan.name_of(index)}: {cause}"
    return FlowEnd(flow_id=flow_id, pipeline=plan.pipeline, state=state, cause=cause)  # type: ignore[arg-type]


async def _completed(store: Store, flow_id: str, plan: Plan) -> AsyncIterator[_Done]:
    """All that completed and can be undone, in no order."""
    single = [index for index, stage in enumerate(plan.stages) if stage.compensate is not None and stage.mapping is None]
    maps = [index for index, stage in enumerate(plan.stages) if stage.compensate is not None and stage.mapping is not None]
    async for done in _read(store, flow_id, single):
        yield done
    for index in maps:
        group = await store.connection.command("HGET", store.keys.flow(flow_id), f"G{index}")
        if group is not None:
            count = group_decoder.decode(group).count
            async for done in _read(store, flow_id, (item_index(index, number) for number in range(count))):
                yield done


async def _read(store: Store, flow_id: str, indexes: Iterable[int]) -> AsyncIterator[_Done]:
    for page in _pages(indexes):
        names = [name for index in page for name in (str(index), f"r{index}")]
        values = await store.connection.command("HMGET", store.keys.flow(flow_id), *names)
        for index, record_data, result in zip(page, values[::2], values[1::2], strict=True):
            record = record_decoder.decode(record_data) if record_data is not None else None
            if record is not None and record.state == "c" and result is not None:
                yield _Done(record.ready_at + record.waited + record.ran, stage_of(index), index, result)


def _pages(indexes: Iterable[int]) -> Iterator[list[int]]:
    page: list[int] = []
    for index in indexes:
        page.append(index)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
