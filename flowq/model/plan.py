"""A plan: a pipeline compiled to its immutable static graph, addressed by the hash of its content.

A plan holds structure and policies, never the values of one flow: those are the flow's inputs. Workers read plans by
stage index and cache them; the server's scripts never read them.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import Literal

import msgspec

from flowq.model.retry import Backoff

# A worker loads only the blocks it needs, so one stage of a flow of 100,000 costs it one block.
BLOCK_STAGES = 256

Isolation = Literal["thread", "process"]
PathStep = str | int


class Binding(msgspec.Struct, frozen=True, array_like=True):
    """One place in a stage's arguments that is filled with (a part of) a child's result.

    Attributes:
        into: where it goes: the argument's name, then keys and indexes inside it.
        child: the index of the child stage.
        take: which part of the child's result: field names and indexes; empty takes all of it.
    """

    into: tuple[PathStep, ...]
    child: int
    take: tuple[PathStep, ...] = ()


class StagePlan(msgspec.Struct, frozen=True, array_like=True):
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

    @property
    def route(self) -> str:
        """What a claim asks for: the queue and the function, as one word."""
        return f"{self.queue}:{self.stage}"


class Plan(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A whole graph. `stages` is in topological order: every child stands before its parents.

    Attributes:
        pipeline: the name of the pipeline.
        stages: all stages.
        output: how the flow's result is put together from stages' results; `into` of `()` takes one result whole.
    """

    pipeline: str
    stages: tuple[StagePlan, ...]
    output: tuple[Binding, ...] = ()

    @cached_property
    def digest(self) -> str:
        """16 characters that name this plan: the same definition gives the same digest in every process."""
        return base64.urlsafe_b64encode(hashlib.sha256(msgspec.msgpack.encode(self)).digest()[:12]).decode()

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Stage name → index."""
        return {stage.name: index for index, stage in enumerate(self.stages)}

    def roots(self) -> list[int]:
        """Indexes of the stages that wait for nothing."""
        return [index for index, stage in enumerate(self.stages) if not stage.children]
