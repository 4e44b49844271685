"""Holds a release against the flows in flight, before it is rolled out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from flowq.errors import FlowNotFound
from flowq.model.filter import FlowFilter
from flowq.model.plan import Plan
from flowq.model.release import ReleaseCheck, ReleaseReport, Served
from flowq.model.snapshot import FlowSummary
from flowq.model.states import FINAL, STATE_LETTER
from flowq.pipeline.stage import AnyStage
from flowq.store.finder import Finder
from flowq.store.literals import joined, names_of_literals
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views, record_decoder
from flowq.store.wire import Head

_PAGE_STAGES = 500
# What flows of hooks have behind the id of their flow.
_HOOKS = re.compile(r"end\d*")

_arguments = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


async def check_release(store: Store, stages: Iterable[AnyStage], queues: Sequence[str] = ()) -> ReleaseReport:
    """What of the flows in flight workers with these stages could not run.

    Args:
        store: where the flows are.
        stages: what the release has.
        queues: the queues that its workers serve; empty: each stage's own.
    """
    views = Views(store)
    check = ReleaseCheck(_served(stages, queues))
    async for page in Finder(store, views).each(FlowFilter(is_live=True, with_hooks=True)):
        for flow, (digest, head) in await _known(views, page):
            await _take(store, check, flow, digest)
            # Hooks stand among those that live, and what is beneath them is looked at with them.
            async for ids in Suspensions(store).all_beneath(flow.id, head, None):
                below = [one for one in await views.summaries(ids) if one.state not in FINAL and _is_nearest(flow.id, one.id)]
                for spawned, (plan, _) in await _known(views, below):
                    await _take(store, check, spawned, plan)
    return check.report


async def _known(views: Views, flows: Sequence[FlowSummary]) -> list[tuple[FlowSummary, tuple[str, Head]]]:
    """The flows that are still there, with their plans' digests and their heads."""
    heads = await views.heads([flow.id for flow in flows])
    return [(flow, known) for flow, known in zip(flows, heads, strict=True) if known is not None]


async def _take(store: Store, check: ReleaseCheck, flow: FlowSummary, digest: str) -> None:
    with contextlib.suppress(FlowNotFound):
        async with store.unless_removed(flow.id):
            plan = await (await store.plan(flow.id, digest)).whole()
        check.take(flow.id, flow.pipeline, await _pending(store, flow.id, plan), plan.hooks())


def _is_nearest(flow_id: str, below: str) -> bool:
    """Whether no hooks stand between the two."""
    return not any(_HOOKS.fullmatch(name) for name in below[len(flow_id) + 1 :].split("^"))


def _served(stages: Iterable[AnyStage], queues: Sequence[str]) -> Mapping[str, Served]:
    return {
        stage.name: Served(
            stage.options.version,
            frozenset(queues or [stage.options.queue]),
            {name: parameter.required for name, parameter in stage.signature.parameters.items()},
        )
        for stage in stages
        if not stage.is_declared
    }


async def _pending(store: Store, flow_id: str, plan: Plan) -> list[Any]:
    """The stages of a flow that have not ended, with the names of their literal arguments."""
    pending: list[Any] = []
    for start in range(0, len(plan.stages), _PAGE_STAGES):
        stages = plan.stages[start : start + _PAGE_STAGES]
        indexes = range(start, start + len(stages))
        names = [name for index in indexes for name in (str(index), *names_of_literals(index))]
        values = await store.connection.command("HMGET", store.keys.flow(flow_id), *names)
        for stage, record, *parts in zip(stages, values[::3], values[1::3], values[2::3], strict=True):
            literals = joined(*parts)
            if record is None or STATE_LETTER[record_decoder.decode(record).state] not in FINAL:
                pending.append((stage, _arguments.decode(literals).keys() if literals else ()))
    return pending
