"""Flows that stages spawn, as their parents see them: their result, why they failed, and running them again."""

from __future__ import annotations

from typing import Any

from flowq.artifacts.storage import Storage
from flowq.engine.results import value_of
from flowq.errors import FlowCancelled, FlowFailed, FlowqError
from flowq.model.failure import Failure
from flowq.model.restart import restart
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import again_of


async def result_of_flow(store: Store, storage: Storage | None, flow_id: str, digest: str, result_type: Any) -> Any:
    """The result of a flow that has completed, as the declared type."""
    plan = await (await store.plan(flow_id, digest)).whole()
    packed = await store.results(flow_id, sorted({binding.child for binding in plan.output}))
    return await value_of(store, lambda: storage, flow_id, plan, packed, result_type)


async def failure_of_flow(store: Store, flow_id: str) -> FlowqError:
    """Why a flow did not complete, as an error that can be raised."""
    snapshot = await Snapshots(store, Views(store)).snapshot(flow_id)
    if snapshot.state == "cancelled":
        return FlowCancelled(flow_id, snapshot.cancel_reason)
    stage = snapshot.stage(snapshot.root_cause) if snapshot.root_cause else None
    failure = stage.failure if stage and stage.failure else Failure("Unknown", "the flow's record does not say why")
    return FlowFailed(flow_id, stage.name if stage else "?", failure.error_type, failure.message, failure.traceback)


async def retry_flow(store: Store, flow_id: str) -> bool:
    """Runs what failed or was cancelled in an ended flow again; False: there is nothing of that kind."""
    while True:
        snapshot = await Snapshots(store, Views(store)).snapshot(flow_id)
        chosen = [index for index, stage in enumerate(snapshot.graph) if stage.state in ("failed", "cancelled")]
        if not snapshot.is_final:
            return True  # somebody else has retried it
        if not chosen:
            return False
        digest = await store.connection.command("HGET", store.keys.flow(flow_id), "p")
        plan = await (await store.plan(flow_id, digest.decode())).whole()
        again = restart(plan, [stage.state for stage in snapshot.graph], chosen)
        if await store.retry(flow_id, snapshot.seq, again_of(plan, again)):
            return True
