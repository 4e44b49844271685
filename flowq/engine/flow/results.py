"""Reads what a flow's pipeline returned: now, or in an earlier run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flowq.engine.backend import Backend, StorageReader
from flowq.engine.flow.gathering import gathered
from flowq.errors import CorruptState, InvalidValue, StorageNotConfigured
from flowq.model.artifact import bound_reader
from flowq.model.failure import unpacked
from flowq.model.plan import Binding, Plan
from flowq.pipeline.conversion import convert
from flowq.store.store import Store
from flowq.store.views import Views

if TYPE_CHECKING:
    from flowq.artifacts.storage import Storage

ReachStorage = Callable[[], "Awaitable[Storage | None]"]


def made_of(output: Iterable[Binding]) -> list[int]:
    """The stages whose results a flow's is made of, by its plan's `output`."""
    return sorted({binding.child for binding in output})


async def read_result(
    backend: Backend, flow_id: str, plan: Plan, result_type: Any, run: int | None = None, known: Mapping[int, bytes] | None = None
) -> Any:
    """The result of a flow that has completed, as the declared type.

    Args:
        backend: where it is.
        flow_id: the flow.
        plan: the flow's.
        result_type: the declared type.
        run: an earlier run, in which it completed; None: the latest.
        known: stage → its packed result in the latest run, as far as it has been read already.

    Raises:
        FlowNotFound: it was removed meanwhile.
        CorruptState: a part is missing, or of another type than declared.
        StorageNotConfigured: it lies in artifact storage, and none is configured.
    """
    store, wanted, runs = backend.store, made_of(plan.output), None
    if run is None:
        packed = known if known is not None and set(wanted) <= set(known) else await store.results(flow_id, wanted)
    else:
        runs = (run, (await Views(store).head(flow_id)).run)
        packed = await store.earlier_results(flow_id, wanted, *runs)
    bound_reader.set(StorageReader(backend))
    async with store.unless_removed(flow_id):
        return await value_of(store, backend.reach_storage, flow_id, plan, packed, result_type, runs)


async def value_of(
    store: Store, storage: ReachStorage, flow_id: str, plan: Plan, packed: Mapping[int, bytes], result_type: Any,
    runs: tuple[int, int] | None = None,
) -> Any:  # fmt: skip
    """The flow's result, put together from those of its stages.

    Args:
        store: where the flow is.
        storage: where large values are; reached when one is to be read.
        flow_id: the flow.
        plan: the flow's.
        packed: stage → its packed result.
        result_type: the declared type.
        runs: an earlier run to read, and the latest; None: the latest.

    Raises:
        as `read_result`.
    """
    is_one_result = [binding.into for binding in plan.output] == [()]
    literal = None if is_one_result else await store.connection.command("HGET", store.keys.flow(flow_id), "out")
    found = await gathered(store, flow_id, plan.output, packed, lambda data: _whole(storage, flow_id, data), runs)
    value = found.filled(unpacked(literal) if literal is not None else None, plan.output)
    try:
        return convert(value, result_type, "result")
    except InvalidValue as error:
        raise CorruptState(flow_id, "result", f"it is not of the declared type: {error.problem}") from None


async def _whole(storage: ReachStorage, flow_id: str, data: bytes) -> bytes:
    from flowq.artifacts.spill import is_spilled, unspill

    if not is_spilled(data):
        return data
    opened = await storage()
    if opened is None:
        raise StorageNotConfigured(f"the result of flow {flow_id!r} lies in artifact storage")
    return await opened.in_thread(unspill, opened, data)
