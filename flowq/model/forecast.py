"""How far a flow is, and how long it will still take, by what its stages took in earlier flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median

import msgspec

from flowq.model.snapshot import StageSnapshot

# Even what takes no time is a step.
_LEAST_SECONDS = 0.001
# Below this share done, a stage's own progress says too little about its end.
_TELLING_PROGRESS = 0.02
# The reasons that end by what the flow itself does, at a known time, or in a queue: who waits for anything else waits how long?
_FORESEEN = (
    "children",
    "busy",
    "suspect",
    "queue_limit",
    "tenant_limit",
    "room_used",
    "at_once",
    "items",
    "back_off",
    "scheduled",
)


class StageRun(msgspec.Struct, frozen=True):
    """What one stage took in an earlier flow.

    Attributes:
        name: its name in that flow.
        stage: its function's name.
        seconds: how long the attempt that completed it ran; 0: it was skipped.
    """

    name: str
    stage: str
    seconds: float


class Forecast:
    """What stages usually take: by their name in the flow, else by their function.

    Args:
        runs: of earlier flows of the same pipeline.
    """

    def __init__(self, runs: Iterable[StageRun] = ()) -> None:
        by_name: dict[str, list[float]] = {}
        by_stage: dict[str, list[float]] = {}
        for run in runs:
            by_name.setdefault(run.name, []).append(run.seconds)
            by_stage.setdefault(run.stage, []).append(run.seconds)
        self._by_name = {name: median(seconds) for name, seconds in by_name.items()}
        self._by_stage = {stage: median(seconds) for stage, seconds in by_stage.items()}

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return not self._by_stage

    def seconds(self, stage: StageSnapshot) -> float | None:
        """What the stage usually takes; None: not known."""
        return self._by_name.get(stage.name, self._by_stage.get(stage.stage))

    def progress(self, graph: Sequence[StageSnapshot]) -> float:
        """0…1 over all stages, each weighing what it usually takes; one that is not known weighs as much as the others do."""
        known = {stage.name: seconds for stage in graph if (seconds := self.seconds(stage)) is not None}
        usual = fmean(known.values()) if known else 1.0
        weights = [max(_LEAST_SECONDS, known.get(stage.name, usual)) for stage in graph]
        return sum(weight * (stage.progress or 0.0) for weight, stage in zip(weights, graph, strict=True)) / sum(weights)

    def eta_seconds(self, graph: Sequence[StageSnapshot], at: int) -> float | None:
        """How long the flow will still take: the longest way through what is left of it, waiting in queues left out.

        None: it is not known of some stage that is left, or one waits for what nobody foresees: a signal, a limit, a worker;
        while nothing is known at all, what the ones tell that are at work, if all do.

        Args:
            graph: the stages, children before parents.
            at: when the graph was read, milliseconds since 1970.
        """
        if any(_is_unforeseen(stage) for stage in graph if not stage.is_final):
            return None
        if self.is_empty:
            told = [_by_own_progress(stage) for stage in graph if not stage.is_final and stage.state != "blocked"]
            return max((left for left in told if left is not None), default=None) if None not in told else None
        end_of: dict[str, float] = {}
        for stage in graph:
            left = self._left(stage, at)
            if left is None:
                return None
            end_of[stage.name] = left + max((end_of[child] for child in stage.children), default=0.0)
        return max(end_of.values(), default=None)

    def _left(self, stage: StageSnapshot, at: int) -> float | None:
        if stage.is_final:
            return 0.0
        usual = self.seconds(stage)
        if stage.state == "suspended" and not _is_at_work(stage):
            return None  # it waits for somebody, or for a flow beneath; a map, for items that all wait
        if _is_at_work(stage):
            by_itself = _by_own_progress(stage)
            return by_itself if by_itself is not None else None if usual is None else max(0.0, usual - (stage.run_seconds or 0.0))
        if usual is None:
            return None
        return usual + (max(0, (stage.ready_at or at) - at) / 1000 if stage.state == "scheduled" else 0.0)


def _is_unforeseen(stage: StageSnapshot) -> bool:
    """Whether it, or an item of it, waits for what nobody foresees."""
    is_held = stage.reason is not None and stage.reason.code not in _FORESEEN
    return is_held or (stage.items is not None and stage.items.suspended > 0)


def _is_at_work(stage: StageSnapshot) -> bool:
    """Whether it runs, or is a map of which an item does."""
    return stage.state == "running" or (stage.state == "suspended" and stage.items is not None and stage.items.running > 0)


def _by_own_progress(stage: StageSnapshot) -> float | None:
    if not _is_at_work(stage) or not stage.run_seconds or (stage.progress or 0.0) <= _TELLING_PROGRESS:
        return None
    return stage.run_seconds * (1 - (stage.progress or 0.0)) / (stage.progress or 1.0)
