"""Flows that stages spawn, as their parents see them: what may be one, their result, why they failed, running them again."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, cast

from msgspec import structs

from flowq.artifacts.storage import Storage
from flowq.engine.flow.again import chosen_again
from flowq.engine.flow.results import made_of, value_of
from flowq.errors import FlowCancelled, FlowDeadlinePassed, FlowFailed, FlowqError, InvalidValue
from flowq.model.failure import Failure
from flowq.model.restart import restart
from flowq.model.spec import FlowSpec
from flowq.model.timing import OUT_OF_TIME, Timing
from flowq.pipeline import Pipeline, Stage
from flowq.pipeline.stage import AnyStage
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.suspensions import Spawner
from flowq.store.views import Views
from flowq.store.wire import again_of

# What FlowFailed says, and its remedy: of errors only the text is kept.
_FAILED = re.compile(r"flow '.+?' failed at (.+?): (\w+): (.*?)(?:; see `flowq inspect .*)?$", re.DOTALL)


def spawnable(what: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlowSpec[Any]:
    """The flow that `spawn` was asked for.

    Raises:
        InvalidValue: it is none, or has an id already.
        WrongArguments, DefinitionError, ValueNotStorable, ValueTooLarge: it is refused.
    """
    if isinstance(what, FlowSpec) and not args and not kwargs:
        if what.options.id is not None:
            raise InvalidValue("id", what.options.id, "none: spawned flows get theirs from flowq; name them with key=")
        if what.options.dedup is not None:
            raise InvalidValue("dedup", what.options.dedup, "none: what a stage spawns is found again by its key=")
        return cast("FlowSpec[Any]", what)
    if isinstance(what, Stage):
        return cast("AnyStage", what).flow(*args, **kwargs)
    if isinstance(what, Pipeline):
        return cast("Pipeline[..., Any]", what)(*args, **kwargs)
    raise InvalidValue(
        "what to spawn", cast("object", what), "a stage or a pipeline and its arguments, or a flow such as encode.flow(path)"
    )


def digest_of(spec: FlowSpec[Any], key: str | None, number: int) -> str:
    """What names a spawned flow beside its parent's stage: the key; or what it runs, its inputs, and which of those it is."""
    said = f"key {spec.plan.pipeline} {key}".encode() if key is not None else spec.fingerprint + number.to_bytes(4, "big")
    return hashlib.sha256(said).hexdigest()[:16]


async def result_of_flow(store: Store, storage: Storage | None, flow_id: str, digest: str, result_type: Any) -> Any:
    """The result of a flow that has completed, as the declared type."""
    plan = await (await store.plan(flow_id, digest)).whole()
    packed = await store.results(flow_id, made_of(plan.output))

    async def reached() -> Storage | None:
        return storage

    return await value_of(store, reached, flow_id, plan, packed, result_type)


async def failure_of_flow(store: Store, flow_id: str) -> FlowqError:
    """Why a flow did not complete, as an error that can be raised."""
    snapshot = await Snapshots(store, Views(store)).snapshot(flow_id)
    if snapshot.state == "cancelled":
        return FlowCancelled(flow_id, snapshot.cancel_reason)
    stage = snapshot.stage(snapshot.root_cause) if snapshot.root_cause else None
    if stage is None and snapshot.fail_reason == OUT_OF_TIME:
        return FlowDeadlinePassed(flow_id)
    failure = stage.failure if stage and stage.failure else Failure("Unknown", "the flow's record does not say why")
    return FlowFailed(flow_id, stage.name if stage else "?", failure.error_type, failure.message, failure.traceback)


def root_cause(error: FlowqError) -> FlowqError:
    """The same error, naming the stage at the bottom, if the flow failed because one beneath it did, and so on down."""
    if isinstance(error, FlowFailed) and error.error_type == FlowFailed.__name__ and (found := _FAILED.match(error.message)):
        return FlowFailed(error.flow_id, found[1], found[2], found[3], error.traceback)
    return error


async def retry_flow(
    store: Store, flow_id: str, spawner: Spawner, timing: Timing
) -> Literal["retried", "changed", "nothing"]:  # fmt: skip
    """Runs what failed or was cancelled in an ended flow again, for the run of a stage that waits for it.

    Args:
        store: where it is.
        flow_id: it.
        spawner: the run.
        timing: what it is spawned with this time: its deadline counts from now.

    Returns:
        `changed`: it is not as it was found any more, or the run is over; `nothing`: it has completed.

    Raises:
        RetryOutOfTurn: its hooks have not ended.
    """
    snapshot = await Snapshots(store, Views(store)).snapshot(flow_id)
    if not snapshot.is_final:
        return "changed"
    digest = await store.connection.command("HGET", store.keys.flow(flow_id), "p")
    plan = await (await store.plan(flow_id, digest.decode())).whole()
    again = chosen_again(snapshot, plan, None, {})
    if not again.stages and not again.maps and snapshot.state == "completed":
        return "nothing"
    restarted = restart(plan, [stage.state for stage in snapshot.graph], again.stages, again.maps, again.alone)
    hooks_seq = snapshot.hooks.seq if snapshot.hooks else 0
    wanted = structs.replace(again_of(plan, restarted), deadline_ms=timing.deadline_ms, deadline_at=timing.deadline_at)
    is_retried = await store.retry(flow_id, snapshot.seq, wanted, hooks_seq, spawner)
    return "retried" if is_retried else "changed"
