"""What a snapshot says of maps: their items folded, and what stands for those that have no record."""

from __future__ import annotations

import msgspec

from flowq.model.items import item_name
from flowq.model.snapshot import ItemsSnapshot, StageSnapshot
from flowq.model.states import STATE_LETTER, StageState
from flowq.store.wire import Group, Record


def item_state(record: Record | None, group: Group, *, is_open: bool) -> StageState:
    """The state of an item: what its record says, unless that is of a run before its map was opened again."""
    is_spared = group.spared > 0 and (record is None or record.ready_at > 0)  # one that runs again has no record, or no time
    if record is not None and (is_spared or record.state == "c" or record.ready_at >= group.opened_at):
        return STATE_LETTER[record.state]
    return "ready" if is_open and not is_spared else "cancelled"


def with_items(
    stage: StageSnapshot, group: Group, listed: tuple[StageSnapshot, ...], suspended: int, beyond: int = 0
) -> StageSnapshot:
    """A map with its items, so many of them suspended, and so many that may be; its failure names the item that failed first."""
    idle = group.count - group.done - group.failed - group.running - group.spared
    suspended = min(idle, max(suspended, sum(item.state == "suspended" for item in listed)))
    first_failed = item_name(stage.name, group.first_failed[0]) if group.first_failed else ""
    items = ItemsSnapshot(
        count=group.count, completed=group.done, running=group.running, failed=group.failed,
        waiting=idle - suspended if stage.state == "suspended" else 0, need=group.need, at_once=group.at_once,
        first_failed=first_failed, listed=listed, suspended=suspended if stage.state == "suspended" else 0, beyond=beyond,
    )  # fmt: skip
    failure = stage.failure
    if stage.state == "failed" and failure is not None and first_failed:
        failure = msgspec.structs.replace(failure, message=f"{first_failed}: {failure.message}")
    progress = (group.done + group.failed + group.spared) / group.count if stage.state == "suspended" else stage.progress
    return msgspec.structs.replace(stage, items=items, failure=failure, progress=progress)


def culprit_of(failed: StageSnapshot) -> str:
    """The name of what failed: of a map the item that failed first."""
    return (failed.items.first_failed if failed.items is not None else "") or failed.name
