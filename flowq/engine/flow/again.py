"""What a retry by hand means by the names that it is given: stages, maps of which only items run again, items. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import msgspec

from flowq.errors import StageNotFound
from flowq.model.hooks import undone_by
from flowq.model.items import ITEMS, is_item, item_index, item_named, stage_of
from flowq.model.plan import Plan
from flowq.model.restart import Restart
from flowq.model.snapshot import FlowSnapshot, StageSnapshot


class ChosenAgain(msgspec.Struct, frozen=True):
    """What runs again, before what follows from it.

    Attributes:
        stages: indexes of stages that run again, maps with all their items.
        maps: index → numbers of completed items that run again, of maps whose items that have not completed do.
        overridable: indexes of stages and items that other arguments are for.
        alone: maps of which enough items have completed, so that only those of `maps` run again.
    """

    stages: list[int]
    maps: dict[int, list[int]]
    overridable: list[int]
    alone: frozenset[int] = frozenset()


def chosen_again(snapshot: FlowSnapshot, plan: Plan, from_stage: str | None, overrides: Mapping[str, Any]) -> ChosenAgain:
    """What failed, was cancelled or was undone after the end, and what `from_stage` names.

    Raises:
        StageNotFound: nothing is called so.
    """
    wanted: list[int] = []
    maps: dict[int, list[int]] = {}
    overridable: list[int] = []
    alone: set[int] = set()
    if from_stage is not None:
        if (item := item_meant(snapshot, plan, from_stage)) is not None:
            maps[item[0]] = [item[1]]
            overridable = [item_index(*item)]
            alone = {item[0]} if _has_enough(snapshot.graph[item[0]]) else set()
        else:
            overridable = wanted = [plan.index_of[stage.name] for stage in stages_named(snapshot, from_stage)]
    stages = list(wanted)
    for index in undone_by(snapshot.hooks.stages if snapshot.hooks is not None else (), plan):
        if is_item(index):
            maps.setdefault(stage_of(index), []).append(index % ITEMS)
        elif index not in stages:
            stages.append(index)
    for index, stage in enumerate(snapshot.graph):
        if stage.state in ("failed", "cancelled") and index not in stages:
            mapping = plan.stages[index].mapping
            # With another list it is another map.
            if stage.items is None or (mapping is not None and mapping.argument in overrides and not overridable):
                stages.append(index)
                maps.pop(index, None)
                alone.discard(index)
            elif index not in maps:
                # Enough had completed, and one that was named alone failed.
                first_failed = item_named(stage.items.first_failed) if _has_enough(stage) else None
                maps[index] = [first_failed[1]] if first_failed else []
                alone |= {index} if first_failed else set()
    alone = {index for index in alone if len(maps[index]) == 1}
    return ChosenAgain(stages, maps, overridable or [*stages, *maps], frozenset(alone))


def runs_again(snapshot: FlowSnapshot, restarted: Restart, unfinished: tuple[int, int] | None = None) -> int:
    """How many stages run again that had begun, and items that had not completed or were named.

    `unfinished`: the map and the number of a named item that had not completed.
    """
    stages = sum(snapshot.graph[stage.index].state != "blocked" for stage in restarted.stages)
    for index, numbers in restarted.maps:
        items = snapshot.graph[index].items
        others = 0 if items is None or index in restarted.alone else items.count - items.completed
        # Where all run again that had not completed, one that was named is among them.
        stages += others + len({number for number in numbers if index in restarted.alone or (index, number) != unfinished})
    return stages


def stages_named(snapshot: FlowSnapshot, pattern: str) -> list[StageSnapshot]:
    """The stages that a name or pattern means.

    Raises:
        StageNotFound: there is none.
    """
    found = [stage for stage in snapshot.graph if fnmatch.fnmatchcase(stage.name, pattern)]
    if not found:
        raise StageNotFound(snapshot.id, pattern, [stage.name for stage in snapshot.graph])
    return found


def _has_enough(stage: StageSnapshot) -> bool:
    return stage.items is not None and stage.items.completed >= stage.items.need


def item_meant(snapshot: FlowSnapshot, plan: Plan, name: str) -> tuple[int, int] | None:
    """The map and the number of a named item; None: the name is none of an item that there is."""
    stage, number = item_named(name) or ("", 0)
    index = plan.index_of.get(stage)
    items = snapshot.graph[index].items if index is not None else None
    return (index, number) if index is not None and items is not None and number < items.count else None
