"""Maps in the table of stages: one row with counts, and below it a row for each item that is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowq.cli.render import palette, tree
from flowq.cli.render.screen import Screen
from flowq.model.items import item_named
from flowq.model.snapshot import ItemsSnapshot, StageSnapshot


def and_items(stages: Sequence[StageSnapshot]) -> list[StageSnapshot]:
    """These stages, and behind them the listed items of those that are maps, in order."""
    return [*stages, *(item for stage in stages if stage.items is not None for item in stage.items.listed)]


def map_of(name: str) -> str:
    """The map's name in an item's; empty: it is none."""
    named = item_named(name)
    return named[0] if named is not None else ""


def with_items(rows: Sequence[tree.Row], graph: Sequence[StageSnapshot], screen: Screen) -> list[tree.Row]:
    """The rows, with those of listed items below their maps'. Members count in `and_items(graph)`."""
    lines = tree.UNICODE if screen.unicode else tree.ASCII
    first: dict[int, int] = {}
    beyond = len(graph)
    for index, stage in enumerate(graph):
        first[index] = beyond
        beyond += len(stage.items.listed) if stage.items is not None else 0
    found: list[tree.Row] = []
    for position, row in enumerate(rows):
        found.append(row)
        index = row.members[0]
        items = graph[index].items if len(row.members) == 1 else None
        if items is not None:
            goes_on = position + 1 < len(rows)
            stem = row.below + (lines.bar if goes_on else lines.blank)
            found += [tree.Row(stem, (first[index] + offset,), True) for offset in range(len(items.listed))]
            found[-1] = found[-1]._replace(more=_unlisted(items, screen))
    return found


def _unlisted(items: ItemsSnapshot, screen: Screen) -> str:
    """How many items are not listed though others in their state are."""
    counts = (("failed", items.failed), ("suspended", items.suspended))
    listed = Counter(item.state for item in items.listed)
    more = [f"{count - listed[state]:,} more {state}" for state, count in counts if 0 < listed[state] < count]
    more += [f"{items.beyond:,} that may wait"] if items.beyond else []
    return f"{screen.ellipsis} and {' and '.join(more)}: `flowq inspect --all` has them" if more else ""


def times(count: int, screen: Screen) -> str:
    """` ×240`: behind the name of a map, and of stages that are folded into one row."""
    return f" {'×' if screen.unicode else 'x'}{count:,}"


def counts(stage: StageSnapshot, screen: Screen) -> str:
    """`231 ✔ 7 ▶ 2 ✘`: how many items are in which state."""
    if stage.items is None:
        return ""
    items = stage.items
    shown = (
        ("completed", items.completed), ("running", items.running), ("suspended", items.suspended), ("ready", items.waiting),
        ("failed", items.failed),
    )  # fmt: skip
    return " ".join(f"{count:,} {palette.glyph(state, screen.unicode)}" for state, count in shown if count)


def counts_say_it_all(stage: StageSnapshot) -> bool:
    """Whether it is a map whose items run, or are kept from it by nothing but what suspended ones wait for."""
    items = stage.items
    if stage.state != "suspended" or items is None:
        return False
    return items.running > 0 or (items.suspended > 0 and stage.reason is not None and stage.reason.code == "items")
