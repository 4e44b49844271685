"""The graph as boxes and arrows, folded when it is large: what the Mermaid, DOT and SVG writers draw."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

from flowq.cli.render import palette
from flowq.cli.render.clean import clean
from flowq.cli.render.notes import shown_reused
from flowq.cli.render.sizes import shown_counts, shown_percent, shown_seconds
from flowq.model.snapshot import FlowSnapshot, StageSnapshot

# Browsers lay out a few hundred boxes and hang at thousands.
_BOXES_MAX: Final = 200


class Box(NamedTuple):
    """A stage, or a group of like stages.

    Attributes:
        title: its name.
        detail: state, progress, time.
        state: which colour it gets.
        layer: how many boxes lie before it on the longest way from the left.
        is_critical: whether it lies on the critical path.
    """

    title: str
    detail: str
    state: str
    layer: int
    is_critical: bool


class Arrow(NamedTuple):
    """From a box to one that waits for it, by their positions in `Picture.boxes`."""

    tail: int
    head: int


class Picture(NamedTuple):
    """A whole graph."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def picture(snapshot: FlowSnapshot) -> Picture:
    """The picture of a flow. Above 200 stages, stages of one function at one distance from the start share a box."""
    graph = snapshot.graph
    index_of = {stage.name: index for index, stage in enumerate(graph)}
    layer_of: list[int] = []
    for index, stage in enumerate(graph):
        layer_of.append(
            max((layer_of[index_of[child]] + 1 for child in stage.children if index_of.get(child, index) < index), default=0)
        )
    groups: dict[Hashable, list[int]] = {}
    for index, stage in enumerate(graph):
        groups.setdefault(_group(index, stage, layer_of[index], len(graph)), []).append(index)
    box_of = {index: position for position, members in enumerate(groups.values()) for index in members}
    arrows = {
        Arrow(box_of[index_of[child]], box_of[index])
        for index, stage in enumerate(graph)
        for child in stage.children
        if child in index_of and box_of[index_of[child]] != box_of[index]
    }
    boxes = tuple(_box([graph[index] for index in members], layer_of[members[0]], snapshot.id) for members in groups.values())
    return Picture(f"{clean(snapshot.pipeline)} {clean(snapshot.id)}: {snapshot.state}", boxes, tuple(sorted(arrows)))


def _group(index: int, stage: StageSnapshot, layer: int, count: int) -> Hashable:
    if count <= _BOXES_MAX:
        return index
    # Chains of thousands would still be thousands of boxes, so distances are told apart only near the start.
    return stage.stage, min(layer, 8)


def _box(stages: Sequence[StageSnapshot], layer: int, flow_id: str) -> Box:
    first = stages[0]
    if len(stages) > 1:
        states = [stage.state for stage in stages]
        state = next((state for state in palette.ORDER if state in states), first.state)
        title = f"{first.stage} ×{len(stages):,}"
        reused = sum(stage.reused is not None for stage in stages)
        detail = shown_counts(states, True) + (f", {reused:,} reused" if reused else "")
        return Box(clean(title), detail, state, min(layer, 8), any(stage.is_critical for stage in stages))
    percent = shown_percent(first.progress) if first.state == "running" else ""
    parts = (first.state, percent, shown_seconds(first.run_seconds), shown_reused(first, flow_id))
    detail = clean(" ".join(part for part in parts if part))
    return Box(clean(first.name), detail, first.state, layer, first.is_critical)
