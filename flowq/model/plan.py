"""A plan: a pipeline compiled to its immutable static graph, addressed by the hash of its content.

A plan holds structure and policies, never the values of one flow: those are the flow's inputs. Workers read plans by
stage index and cache them; the server's scripts never read them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Literal

import msgspec

from flowq.model.items import Mapped, is_item, item_index, item_name, item_named, stage_of
from flowq.model.keep import Keep
from flowq.model.limit import LimitUse
from flowq.model.retry import Backoff

# A worker loads only the blocks it needs, so one stage of a flow of 100,000 costs it one block.
BLOCK_STAGES = 256

Isolation = Literal["thread", "process"]
PathStep = str | int
# What becomes of a place whose child failed for good: the parent does not run; it gets the failure; the place is left out of its
# list; it gets the list of those items that completed.
OnFailure = Literal["fail", "value", "drop", "items"]
# The argument that holds a stage's condition beside its own: no function can have a parameter of this name.
CONDITION = "?"
# Where it keeps the names of those that are stored as somebody typed them; see flowq/engine/flow/as_typed.py.
TYPED = "?typed"
# What the digests of plans end with that have hooks for every end of a flow, and for every end but its completion: so the
# scripts, which never read plans, know whether there is anything to run after a flow has ended (scripts/hooked.lua).
HOOKS_ALWAYS, HOOKS_UNLESS_COMPLETED = "^", "~"
# What a hook is for that undoes no stage.
AT_END = "^"


class Binding(msgspec.Struct, frozen=True, array_like=True):
    """One place in a stage's arguments that is filled with (a part of) a child's result.

    Attributes:
        into: where it goes: the argument's name, then keys and indexes inside it.
        child: the index of the child stage.
        take: which part of the child's result: field names and indexes; empty takes all of it.
        on_failure: what becomes of this place if the child fails for good.
    """

    into: tuple[PathStep, ...]
    child: int
    take: tuple[PathStep, ...] = ()
    on_failure: OnFailure = "fail"


class StagePlan(msgspec.Struct, frozen=True, array_like=True, cache_hash=True):
    """One stage of a plan.

    Attributes:
        name: its name in the flow, unique there (`encode`, `encode-2`).
        stage: the name of the function that does its work: what a worker must know to serve it.
        queue: the queue whose workers run it.
        attempts: how often it may run before it fails for good; counts the first run.
        backoff: the wait before each retry.
        timeout_ms: how long one attempt may run; None: no limit.
        priority: larger runs first; added to the flow's own.
        isolation: where it runs: a thread or the loop of a shared process, or a process of its own.
        bindings: which children's results fill which arguments.
        children: indexes of all stages it waits for, ascending.
        parents: indexes of all stages that wait for it, ascending.
        tolerates: those of `children` whose failure does not keep it from running, ascending.
        delay_ms: how long it waits after its release.
        stall_ms: how long one attempt may go without progress; None: no limit.
        version: which version of the function it needs; "": one without versions.
        mapping: how it runs once for each element of a list; None: it runs once.
        limits: what it takes of which limits; it waits for them before each run.
        needs: what it takes of the worker host's own room: (`gpu`, 1).
        cache_ms: how long its result is kept for other flows, and how old one may be that it takes; 0: it always runs.
        compensate: what undoes it when it had completed and its flow fails or is cancelled; None: nothing.
        hook: of a hook, the name of the stage or item that it undoes, or `AT_END`; "": it is none.
    """

    name: str
    stage: str
    queue: str = "default"
    attempts: int = 1
    backoff: Backoff = Backoff()
    timeout_ms: int | None = None
    priority: int = 0
    isolation: Isolation = "thread"
    bindings: tuple[Binding, ...] = ()
    children: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    tolerates: tuple[int, ...] = ()
    delay_ms: int = 0
    stall_ms: int | None = None
    version: str = ""
    mapping: Mapped | None = None
    limits: tuple[LimitUse, ...] = ()
    needs: tuple[tuple[str, int], ...] = ()
    cache_ms: int = 0
    compensate: Hook | None = None
    hook: str = ""

    @property
    def label(self) -> str:
        """What a worker must know to run it."""
        return stage_label(self.stage, self.version)

    @property
    def route(self) -> str:
        """What a claim asks for: the queue and the function in its version, as one word."""
        return f"{self.queue}:{self.label}"


class Hook(msgspec.Struct, frozen=True, array_like=True):
    """A stage that runs after the end of a flow.

    Attributes:
        stage: it, without neighbours.
        argument: the name of its argument, which takes the result that it undoes, or a `FlowEnd`.
    """

    stage: StagePlan
    argument: str


def stage_label(stage: str, version: str) -> str:
    """`encode`, or `encode@2` where it has a version."""
    return f"{stage}@{version}" if version else stage


class Plan(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A whole graph. `stages` is in topological order: every child stands before its parents.

    Attributes:
        pipeline: the name of the pipeline.
        stages: all stages.
        output: how the flow's result is put together from stages' results; `into` of `()` takes one result whole.
        fail_fast: whether a stage's failure ends the flow at once.
        finish_first: whether all its later stages go before the first ones of other flows of the same priority.
        keep: how long its flows are kept; None: as long as the namespace says.
        finally_: what runs after the end of each flow; None: nothing.
    """

    pipeline: str
    stages: tuple[StagePlan, ...]
    output: tuple[Binding, ...] = ()
    fail_fast: bool = False
    finish_first: bool = False
    keep: Keep | None = None
    finally_: Hook | None = None

    @cached_property
    def digest(self) -> str:
        """16 characters that name this plan: the same definition gives the same digest in every process."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(msgspec.msgpack.encode(self)).digest()[:12]).decode()
        if self.finally_ is not None:
            return digest[:15] + HOOKS_ALWAYS
        return digest[:15] + HOOKS_UNLESS_COMPLETED if any(stage.compensate for stage in self.stages) else digest

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Stage name → index."""
        return {stage.name: index for index, stage in enumerate(self.stages)}

    def name_of(self, index: int) -> str:
        """The name of a stage, or of an item of one."""
        name = self.stages[stage_of(index)].name
        return item_name(name, index) if is_item(index) else name

    def find(self, name: str) -> int | None:
        """The index of the stage or item of this name; None: there is none."""
        if (index := self.index_of.get(name)) is not None:
            return index
        stage, number = item_named(name) or ("", 0)
        index = self.index_of.get(stage)
        return item_index(index, number) if index is not None and self.stages[index].mapping is not None else None

    def is_tolerated(self, index: int) -> bool:
        """Whether the flow may complete although this stage fails for good."""
        return tolerated(index, self.stages[index].parents, self.stages.__getitem__, self.output, by_all=True)

    def hooks(self) -> list[Hook]:
        """All that may run after the end of its flows."""
        every = (*(stage.compensate for stage in self.stages), self.finally_)
        return [hook for hook in every if hook is not None]

    def roots(self) -> list[int]:
        """Indexes of the stages that wait for nothing."""
        return [index for index, stage in enumerate(self.stages) if not stage.children]


def tolerated(
    index: int, parents: Iterable[int], stage_at: Callable[[int], StagePlan], output: Iterable[Binding], *, by_all: bool
) -> bool:
    """Whether a stage's failure is tolerated by those who use its result: its parents and the flow's own result.

    Args:
        index: the stage's.
        parents: those who wait for it.
        stage_at: index → stage.
        output: the flow's output.
        by_all: all of them, and there is one; else: at least one.
    """
    if by_all and stage_at(index).hook:  # the next hook bears the failure, and their flow fails all the same
        return False
    users = [index in stage_at(parent).tolerates for parent in parents]
    users += [binding.on_failure != "fail" for binding in output if binding.child == index]
    return bool(users) and (all(users) if by_all else any(users))
