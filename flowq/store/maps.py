"""Maps in the store: the items of a stage that runs once for each element of a list. Functions beside `Store`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flowq.errors import CorruptState
from flowq.model.failure import is_failure
from flowq.model.items import item_index
from flowq.model.outcome import Claim
from flowq.store.literals import joined, names_of_literals
from flowq.store.store import Store
from flowq.store.wire import Group, group_decoder


async def put_items(store: Store, claim: Claim, number: int, literals: Sequence[bytes]) -> int:
    """Writes the literals of items of a claimed map, from the one with this number on, at first at most 100.

    Returns:
        How many may be written next; 0: the claim is somebody else's, and nothing was written.
    """
    return await store.connection.run("items", store.keys.tag_of(claim.flow_id), *claim.run, number, *literals)


async def literals_of(store: Store, flow_id: str, stage: int) -> bytes:
    """The packed literal arguments of a stage; empty: none."""
    return joined(*await store.connection.command("HMGET", store.keys.flow(flow_id), *names_of_literals(stage)))


async def disband(store: Store, flow_id: str, stage: int) -> None:
    """Stops what still runs of a map that has ended; nothing if that is done."""
    while (await store.connection.run("disband", store.keys.tag_of(flow_id), flow_id, stage))[0] == b"closing":
        pass


async def group_of(store: Store, flow_id: str, stage: int, runs: Sequence[int] = ()) -> Group | None:
    """The group of a map, as the first of these earlier runs left it that has put one aside, else as it is; None: no items.

    Raises:
        CorruptState: it can't be read.
    """
    names = [*(f"G{stage}.{run}" for run in runs), f"G{stage}"]
    values = await store.connection.command("HMGET", store.keys.flow(flow_id), *names)
    data = next((value for value in values if value is not None), None)
    try:
        return None if data is None else group_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise CorruptState(flow_id, f"items of stage {stage}", str(error)) from None


async def item_results(store: Store, flow_id: str, stage: int, run: int | None = None, latest: int = 1) -> list[bytes]:
    """The packed results of those items of a map that completed, in order, read 1,000 at a time.

    Args:
        store: where they are.
        flow_id: the flow.
        stage: the map.
        run: the flow's run; None: the latest.
        latest: the number of the latest run.

    Raises:
        CorruptState: some are missing.
    """
    group = await group_of(store, flow_id, stage, range(run, latest) if run is not None else ())
    if group is None:
        return []
    indexes = range(item_index(stage, 0), item_index(stage, group.count))
    if run is None:
        found = await store.results(flow_id, indexes)
    else:
        found = await store.earlier_results(flow_id, indexes, run, latest)
    results = [data for index in indexes if (data := found.get(index)) and not is_failure(data)]
    if len(results) != group.done:
        raise CorruptState(flow_id, f"results of stage {stage}", f"there are {len(results)} of {group.done}")
    return results
