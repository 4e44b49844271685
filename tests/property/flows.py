"""A flow and its stages as they stand: what is true of them follows from the states of all stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flowq.model.items import item_index, stage_of
from flowq.model.outcome import Token, Wait
from flowq.model.plan import Plan, StagePlan

OVER = ("completed", "failed", "cancelled", "skipped")
ACTIVE = ("ready", "scheduled", "running", "suspended")
OPEN = ("ready", "running", "paused")
ENDED = ("completed", "failed", "cancelled")
# The event that the flow itself has, beside those of its stages.
FLOW = -1


@dataclass(slots=True, eq=False)
class Stage:
    """A stage, or an item of a map.

    Attributes:
        is_first: it is ready or scheduled since its flow was added, or its map opened: nobody has touched it yet.
        is_later: its flow had begun when it became ready.
        place: since when it is ready, as a number that grows; of two in one lane the earlier goes first.
        gives_way: it became ready with others of its flow that were claimed since: those of other flows may go before it.
        items: of a map that knows its list.
        has_items: whether these are still those of its latest run.
        spared: items that stay as they ended, because another one runs again alone.
        waits: what it waited for when it was suspended last.
        timers: each that it ever started: it `runs`, is `over`, or its end was `seen`.
        suspensions: how often it was suspended.
    """

    index: int
    plan: StagePlan
    state: str = "blocked"
    attempt: int = 0
    crashes: int = 0
    token: Token | None = None
    holder: str = ""
    is_suspect: bool = False
    is_first: bool = False
    is_later: bool = False
    place: int = 0
    gives_way: bool = False
    result: bytes | None = None
    cause: str = ""
    items: list[Stage] = field(default_factory=list)
    has_items: bool = False
    need: int = 0
    first_failed: Stage | None = None
    spared: list[Stage] = field(default_factory=list)
    waits: tuple[Wait, ...] = ()
    timers: dict[str, str] = field(default_factory=dict)
    suspensions: int = 0

    @property
    def route(self) -> str:
        """Where it waits to be claimed."""
        return self.plan.route + ("!" if self.is_suspect else "")

    @property
    def is_item(self) -> bool:
        """Whether it belongs to a map."""
        return self.index != stage_of(self.index)

    @property
    def has_enough(self) -> bool:
        """Whether as many of its items have completed as it needs."""
        return sum(item.state == "completed" for item in self.items) >= self.need

    def again(self) -> None:
        """Forgets its runs."""
        self.state, self.attempt, self.crashes, self.token, self.holder = "blocked", 0, 0, None, ""
        self.is_suspect, self.is_first, self.result, self.cause, self.first_failed = False, False, None, "", None
        self.forget_waits()

    def forget_waits(self) -> None:
        """It was never suspended."""
        self.waits, self.timers, self.suspensions = (), {}, 0


@dataclass(slots=True)
class Link:
    """Where a flow comes from that a stage spawned.

    Attributes:
        stage: the stage's index.
        root: the flow at the root of the tree; another one may have its id later.
        run, attempt: of the stage, when it last began this flow, retried it, or found it before it had ended.
    """

    stage: int
    root: Flow
    run: int
    attempt: int


class Flow:
    """A flow: its stages, and what is true of it as a whole."""

    def __init__(self, flow_id: str, plan: Plan, inputs: bytes, priority: int, *, begins_later: bool, has_deadline: bool) -> None:
        self.id, self.plan, self.inputs, self.priority = flow_id, plan, inputs, priority
        self.state = "scheduled" if begins_later else "ready"
        self.is_early, self.has_begun, self.has_deadline = begins_later, False, has_deadline
        self.stages = [Stage(index, stage) for index, stage in enumerate(plan.stages)]
        self.parts: list[list[int]] = []
        self.reason, self.run, self.seq = "", 1, 0
        # Items that have ever been claimed; a map that is run again may have them again.
        self.recorded: set[int] = set()
        # Entries of an earlier life may still be in the lanes, so that a stage may be claimed before its turn.
        self.has_ghosts = False
        # Of one that a stage spawned.
        self.link: Link | None = None
        # What was signalled, and which stages have waited for a signal since it came last.
        self.signals: dict[str, bytes] = {}
        self.listeners: dict[str, list[int]] = {}

    def at(self, index: int) -> Stage | None:
        """A stage or an item; what ran under the same id before may have had more of them."""
        if stage_of(index) >= len(self.stages):
            return None
        stage = self.stages[stage_of(index)]
        if index == stage.index:
            return stage
        number = index - item_index(stage.index, 0)
        return stage.items[number] if number < len(stage.items) else None

    def map_of(self, item: Stage) -> Stage | None:
        """The map that this item belongs to, if it still counts."""
        stage = self.stages[stage_of(item.index)]
        return stage if stage.state == "suspended" else None

    def every(self) -> Iterator[Stage]:
        """All stages and items."""
        for stage in self.stages:
            yield stage
            yield from stage.items

    def bears(self, parent: Stage, child: Stage) -> bool:
        """Whether a parent need not wait for this child any more."""
        return child.state in ("completed", "skipped") or (child.state == "failed" and child.index in parent.plan.tolerates)

    def is_tolerated(self, index: int) -> bool:
        """Whether all who use a stage's result go on if it fails: then the flow may complete all the same."""
        users = [index in self.stages[parent].plan.tolerates for parent in self.stages[index].plan.parents]
        users += [use.on_failure != "fail" for use in self.plan.output if use.child == index]
        return bool(users) and all(users)

    def is_done(self, stage: Stage) -> bool:
        """Whether a stage does not keep the flow from completing."""
        return stage.state in ("completed", "skipped") or (stage.state == "failed" and self.is_tolerated(stage.index))

    @property
    def active(self) -> int:
        """How many stages are under way."""
        return sum(stage.state in ACTIVE for stage in self.stages)

    @property
    def away(self) -> int:
        """How many stages are suspended, but for maps."""
        return sum(stage.state == "suspended" and stage.plan.mapping is None for stage in self.stages)

    @property
    def unfinished(self) -> int:
        """How many stages keep it from completing."""
        return sum(not self.is_done(stage) for stage in self.stages)

    @property
    def failures(self) -> int:
        """How many have failed and keep it from completing."""
        return sum(stage.state == "failed" and not self.is_tolerated(stage.index) for stage in self.stages)
