"""A plan as a worker reads it: only the blocks of 256 stages that it needs, with what their completion may release."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from flowq.errors import CorruptState
from flowq.model.plan import BLOCK_STAGES, Plan, StagePlan, tolerated
from flowq.store.connection import Connection
from flowq.store.keys import PLAN
from flowq.store.wire import PlanHead, bearers_of, later_priority, releases_of

_stages = msgspec.msgpack.Decoder(tuple[StagePlan, ...])


class StoredPlan:
    """A plan in the store. `load` fetches; the rest answers from what was loaded."""

    def __init__(self, connection: Connection, key: str, head: PlanHead) -> None:
        self.head = head
        self._connection = connection
        self._key = key
        self._blocks: dict[int, tuple[StagePlan, ...]] = {}
        self._releases: dict[int, msgspec.Raw] = {}
        self._bearers: dict[int, tuple[msgspec.Raw, bool]] = {}
        self._routes: frozenset[str] | None = None
        self._loading = asyncio.Lock()

    @classmethod
    async def opened(cls, connection: Connection, flow_id: str, tag: str, digest: str) -> StoredPlan:
        """The plan of a flow, of which only the head is read. Raises CorruptState."""
        key, damage = tag + PLAN + digest, "it is missing"
        data = await connection.command("HGET", key, "head")
        if data is not None:
            try:
                return cls(connection, key, msgspec.msgpack.decode(data, type=PlanHead))
            except msgspec.DecodeError as error:
                damage = str(error)
        raise CorruptState(flow_id, f"plan {digest}", damage)

    def holds(self, index: int) -> bool:
        """Whether this stage, and all that its completion needs, is loaded."""
        return index in self._releases

    async def load(self, index: int) -> None:
        """Loads a stage and its parents; once, though a worker begins with many stages of one plan at the same moment."""
        async with self._loading:
            if self.holds(index):
                return
            await self._load_blocks({index // BLOCK_STAGES})
            stage = self.stage(index)
            await self._load_blocks({parent // BLOCK_STAGES for parent in stage.parents})
            self._releases[index] = releases_of(stage, self.stage, finish_first=self.head.finish_first)

    async def whole(self) -> Plan:
        """The whole plan."""
        await self._load_blocks(set(range((self.head.stages + BLOCK_STAGES - 1) // BLOCK_STAGES)))
        stages = tuple(stage for block in sorted(self._blocks) for stage in self._blocks[block])
        head = self.head
        return Plan(head.pipeline, stages, head.output, head.fail_fast, head.finish_first, head.keep, head.finally_)

    async def routes(self) -> frozenset[str]:
        """The routes of all its stages."""
        if self._routes is None:
            self._routes = frozenset(stage.route for stage in (await self.whole()).stages)
        return self._routes

    def stage(self, index: int) -> StagePlan:
        """A stage that was loaded."""
        return self._blocks[index // BLOCK_STAGES][index % BLOCK_STAGES]

    def names(self, indexes: tuple[int, ...]) -> tuple[str, ...]:
        """The names of those of these stages that are loaded; a wide fan-in does not load its thousands of children."""
        return tuple(self.stage(index).name for index in indexes if index // BLOCK_STAGES in self._blocks)

    def releases(self, index: int) -> msgspec.Raw:
        """The parents that a loaded stage's completion may release, packed."""
        return self._releases[index]

    def priority(self, index: int) -> int:
        """`later_priority` of a loaded stage."""
        return later_priority(self.stage(index), finish_first=self.head.finish_first)

    def bearers(self, index: int) -> tuple[msgspec.Raw, bool]:
        """Those of a loaded stage's parents that its failure may release, packed; and whether all who use its result tolerate it.

        Each item of a map asks for its stage's: so they are kept.
        """
        known = self._bearers.get(index)
        if known is None:
            packed = bearers_of(index, self.stage(index), self.stage, finish_first=self.head.finish_first)
            known = self._bearers[index] = packed, self.is_tolerated(index, by_all=True)
        return known

    def is_tolerated(self, index: int, *, by_all: bool) -> bool:
        """Whether one of those who use a loaded stage's result tolerates its failure, or all of them do."""
        return tolerated(index, self.stage(index).parents, self.stage, self.head.output, by_all=by_all)

    async def _load_blocks(self, blocks: set[int]) -> None:
        missing = sorted(blocks - self._blocks.keys())
        if not missing:
            return
        packed: list[Any] = await self._connection.command("HMGET", self._key, *(f"b{block}" for block in missing))
        for block, stages in zip(missing, packed, strict=True):
            if stages is None:
                raise CorruptState("", f"plan {self._key}", f"block {block} is missing")
            try:
                self._blocks[block] = _stages.decode(stages)
            except ValueError as error:
                raise CorruptState("", f"plan {self._key}", f"block {block}: {error}") from None
