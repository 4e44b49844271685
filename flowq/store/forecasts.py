"""Reads what stages took in the latest completed flows of a pipeline: lazily, when somebody looks at a flow that runs."""

from __future__ import annotations

import time
from weakref import WeakKeyDictionary

import msgspec

from flowq.errors import FlowqError
from flowq.model.forecast import Forecast, StageRun
from flowq.store.finder import Finder
from flowq.store.store import Store
from flowq.store.views import Views, record_decoder

_FLOWS = 5
# Among so many of the newest flows it looks for some that have completed, a page at a time: a backlog may be before them.
_LOOKED_AT, _PAGE = 2_000, 100
# Of larger flows only so many stages are read: their stages are many calls of few functions.
_STAGES_MAX = 500
# Who watches a flow asks many times a second.
_KEPT_SECONDS = 30.0

_known: WeakKeyDictionary[Store, dict[str, tuple[float, Forecast]]] = WeakKeyDictionary()


async def forecast_of(store: Store, views: Views, pipeline: str) -> Forecast:
    """What the stages of a pipeline usually take; empty where that is not known."""
    kept = _known.setdefault(store, {})
    read_at, forecast = kept.get(pipeline, (-_KEPT_SECONDS, Forecast()))
    if time.monotonic() - read_at >= _KEPT_SECONDS:
        try:
            forecast = Forecast(await _runs(store, views, pipeline))
        except (FlowqError, msgspec.MsgspecError, LookupError, ValueError, TypeError):  # a damaged flow must not hide another one
            forecast = Forecast()
        if len(kept) > 1_000:
            kept.clear()
        kept[pipeline] = (time.monotonic(), forecast)
    return forecast


async def _runs(store: Store, views: Views, pipeline: str) -> list[StageRun]:
    flow_ids = await Finder(store, views).newest_ids(pipeline, _LOOKED_AT)
    completed: list[tuple[str, str]] = []
    for first in range(0, len(flow_ids), _PAGE):
        page = flow_ids[first : first + _PAGE]
        heads = await views.heads(page)
        completed += [(flow_id, known[0]) for flow_id, known in zip(page, heads, strict=True) if known and known[1].status == "c"]
        if len(completed) >= _FLOWS:
            break
    runs: list[StageRun] = []
    for flow_id, digest in completed[:_FLOWS]:
        plan = await store.plan(flow_id, digest)
        count = min(plan.head.stages, _STAGES_MAX)
        records = await store.connection.command("HMGET", store.keys.flow(flow_id), *(str(index) for index in range(count)))
        for index, data in enumerate(records):
            if data is None:
                continue
            await plan.load(index)
            record, stage = record_decoder.decode(data), plan.stage(index)
            # One that was reused made no attempt: it tells nothing of how long a run takes.
            if record.state == "-" or (record.state == "c" and record.attempt):
                # A map is many calls of its function, which tell nothing of one.
                function = stage.stage if stage.mapping is None else f"{stage.name}[]"
                runs.append(StageRun(stage.name, function, record.ran / 1000 if record.state == "c" else 0.0))
    return runs
