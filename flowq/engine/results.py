"""Reads what a flow's pipeline returned: now, or in an earlier run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flowq.engine.backend import Backend, StorageReader
from flowq.errors import CorruptState, InvalidValue, StorageNotConfigured
from flowq.model.artifact import bound_reader
from flowq.model.failure import unpacked
from flowq.model.plan import Plan
from flowq.model.values import fill
from flowq.pipeline.conversion import convert
from flowq.store.store import Store
from flowq.store.views import Views

if TYPE_CHECKING:
    from flowq.artifacts.storage import Storage


async def read_result(backend: Backend, flow_id: str, plan: Plan, result_type: Any, run: int | None = None) -> Any:
    """The result of a flow that has completed, as the declared type.

    Args:
        backend: where it is.
        flow_id: the flow.
        plan: the flow's.
        result_type: the declared type.
        run: an earlier run, in which it completed; None: the latest.

    Raises:
        CorruptState: a part is missing, or of another type than declared.
        StorageNotConfigured: it lies in artifact storage, and none is configured.
    """
    store, wanted = backend.store, sorted({binding.child for binding in plan.output})
    if run is None:
        packed = await store.results(flow_id, wanted)
    else:
        packed = await store.earlier_results(flow_id, wanted, run, (await Views(store).head(flow_id)).run)
    bound_reader.set(StorageReader(backend))
    return await value_of(store, lambda: backend.storage, flow_id, plan, packed, result_type)


async def value_of(
    store: Store, storage: Callable[[], Storage | None], flow_id: str, plan: Plan, packed: Mapping[int, bytes], result_type: Any
) -> Any:
    """The flow's result, put together from those of its stages.

    Args:
        store: where the flow is.
        storage: where large values are; opened when one is to be read.
        flow_id: the flow.
        plan: the flow's.
        packed: stage → its packed result.
        result_type: the declared type.

    Raises:
        as `read_result`.
    """
    literal = await store.connection.command("HGET", store.keys.flow(flow_id), "out")
    results: dict[int, Any] = {}
    for child in sorted({binding.child for binding in plan.output}):
        if child not in packed:
            raise CorruptState(flow_id, f"result of {plan.stages[child].name}", "it is missing")
        results[child] = unpacked(await _whole(storage, flow_id, packed[child]))
    value = fill(unpacked(literal) if literal is not None else None, plan.output, results)
    try:
        return convert(value, result_type, "result")
    except InvalidValue as error:
        raise CorruptState(flow_id, "result", f"it is not of the declared type: {error.problem}") from None


async def _whole(storage: Callable[[], Storage | None], flow_id: str, data: bytes) -> bytes:
    from flowq.artifacts.spill import is_spilled, unspill

    if not is_spilled(data):
        return data
    opened = storage()
    if opened is None:
        raise StorageNotConfigured(f"the result of flow {flow_id!r} lies in artifact storage")
    return await opened.in_thread(unspill, opened, data)
