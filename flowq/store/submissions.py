"""How flows come into the store: large ones in pieces first, plans once each, then one script call for the whole batch."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from flowq.errors import CorruptState
from flowq.model.dedup import MODE_LETTER, Addition
from flowq.model.filter import labels_of
from flowq.model.outcome import opaque
from flowq.model.plan import BLOCK_STAGES, Plan
from flowq.model.spec import FlowSpec
from flowq.store.connection import Connection
from flowq.store.keys import ROUTES_UNCOUNTED, STAGING
from flowq.store.literals import fields_of_literals
from flowq.store.portions import BYTES_MAX, portions
from flowq.store.wire import Header, PlanHead, Ranges, Submission, later_ranges_of, ranges_of

# A flow with more fields than this, or a megabyte of them, is written in pieces first, so that no script call is long.
_FIELDS_INLINE_MAX = 500
_STAGED_SECONDS = 600
_PLAN_UNUSED_MS = 3_600_000
# A plan may be pruned, and staged fields may expire, between two steps of a submission; not three times in a row.
_SUBMITS_MAX = 4
_RANGES_CACHED = 256
# Of a plan with more routes only is noted that it has so many: no plan takes a script longer than some milliseconds to count.
_ROUTES_MAX = 200
_ADDITIONS: dict[bytes, Addition] = {b"added": "added", b"kept": "kept", b"replaced": "replaced"}

_pack = msgspec.msgpack.Encoder().encode


class Added(msgspec.Struct, frozen=True):
    """The outcome of one submission: which flow it is now, and what became of it."""

    flow_id: str
    addition: Addition

    @property
    def is_new(self) -> bool:
        """Whether there was no flow of this id before."""
        return self.addition in ("added", "kept")


def added_as(flow_id: str, word: bytes | tuple[bytes, bytes]) -> Added:
    """What the script's word for a submission means."""
    what, standing = (word, flow_id) if isinstance(word, bytes) else (word[0], word[1].decode())
    return Added(standing, _ADDITIONS.get(what, "found"))


def bytes_of(spec: FlowSpec[Any]) -> int:
    """How large the arguments of a flow's stages are."""
    return sum(map(len, spec.literals.values())) + len(spec.output_literal or b"")


def calls_of(
    flows: Iterable[tuple[str, FlowSpec[Any]]], tag_of: Callable[[str], str]
) -> Iterator[tuple[str, list[tuple[str, FlowSpec[Any]]]]]:
    """The flows by partition, and in calls that are not large."""
    by_tag: dict[str, list[tuple[str, FlowSpec[Any]]]] = {}
    for flow_id, spec in flows:
        by_tag.setdefault(tag_of(flow_id), []).append((flow_id, spec))
    for tag, group in by_tag.items():
        for portion in portions(group, lambda flow: bytes_of(flow[1]), len(group)):
            yield tag, portion


class Submissions:
    """Submits flows over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ranges: dict[str, tuple[Ranges, list[tuple[int, Ranges]]]] = {}

    async def submit(self, tag: str, group: Sequence[tuple[str, FlowSpec[Any]]], spawner: object = None) -> list[Any]:
        """Submits flows of one partition; the script's word for each: `added`, `kept`, `exists`, `conflict`; or `first` and
        the id of the flow that stands in the way, `replaced` and that of the flow whose place was taken.

        With a spawner (see scripts/spawn.lua) also `stale`: its run is over, and nothing was added.

        Raises:
            CorruptState: what was written vanishes as soon as it is written.
        """
        submissions = [await self._submission(tag, flow_id, spec) for flow_id, spec in group]
        more = () if spawner is None else (_pack(spawner),)
        words: list[Any] = await self._connection.run("submit", tag, _pack(submissions), *more)
        submits = 1
        while missing := [position for position, word in enumerate(words) if word in (b"no_plan", b"staging_lost")]:
            if submits == _SUBMITS_MAX:
                raise CorruptState(group[missing[0]][0], "its plan or its inputs", "they vanish as soon as they are written")
            submits += 1
            for digest, spec in {group[position][1].plan.digest: group[position][1] for position in missing}.items():
                await self._put_plan(tag, digest, spec.plan)
            for position in missing:
                if words[position] == b"staging_lost":
                    submissions[position] = await self._submission(tag, *group[position])
            again = [submissions[position] for position in missing]
            for position, word in zip(missing, await self._connection.run("submit", tag, _pack(again), *more), strict=True):
                words[position] = word
        return words

    async def _submission(self, tag: str, flow_id: str, spec: FlowSpec[Any]) -> Submission:
        plan, options = spec.plan, spec.options
        is_large = len(spec.literals) >= _FIELDS_INLINE_MAX or bytes_of(spec) > BYTES_MAX
        fields: list[Any] = []
        for index, literals in spec.literals.items():
            for name, value in [(f"i{index}", literals)] if is_large else fields_of_literals(index, literals):
                fields += (name, value if is_large else opaque(value))
        if spec.output_literal is not None:
            fields += ("out", spec.output_literal if is_large else opaque(spec.output_literal))
        labels = labels_of(plan.pipeline, options.tenant, options.tags)
        if len(labels) > 1:
            fields += ("l", _pack(labels[1:]) if is_large else opaque(_pack(labels[1:])))
        dedup = options.dedup
        once = False
        if dedup is not None:
            once = (dedup.name(plan.pipeline), MODE_LETTER[dedup.mode], dedup.wait_ms, dedup.longest_ms)
        staging: str | bool = False
        staged = len(fields) // 2
        if is_large:
            await self._connection.refuse_without_rights(tag)
            staging = f"{tag}{STAGING}{flow_id}:{secrets.token_hex(8)}"
            pairs = zip(fields[::2], fields[1::2], strict=True)
            for portion in portions(pairs, lambda pair: len(pair[1]), _FIELDS_INLINE_MAX):
                words = [word for pair in portion for word in pair]
                await self._connection.commands(("HSET", staging, *words), ("EXPIRE", staging, _STAGED_SECONDS))
            fields = []
        ranges, later = self._roots_of(plan)
        named = (dedup.key, dedup.mode) if dedup else None
        inputs = b"" if not is_large and spec.inputs == spec.literals.get(0) else spec.inputs
        header = Header(plan.pipeline, len(plan.stages), inputs, options.tenant, options.tags, not options.cache, named)
        is_timed = bool(later) or options.timing.is_given or (dedup is not None and dedup.waits)
        return Submission(
            flow_id, opaque(spec.fingerprint), plan.digest, opaque(_pack(header)), options.priority, len(plan.stages),
            sum(last - first + 1 for part in (ranges, *(part for _, part in later)) for _, _, first, last in part),
            fields, ranges, staging, staged,
            (*msgspec.structs.astuple(options.timing), later) if is_timed else False,
            labels, opaque(_pack(plan.keep)) if plan.keep is not None else opaque(b""), once, options.tenant,
        )  # fmt: skip

    def _roots_of(self, plan: Plan) -> tuple[Ranges, list[tuple[int, Ranges]]]:
        roots = self._ranges.get(plan.digest)
        if roots is None:
            roots = self._ranges[plan.digest] = (ranges_of(plan), later_ranges_of(plan))
            if len(self._ranges) > _RANGES_CACHED:
                self._ranges.pop(next(iter(self._ranges)))
        return roots

    async def _put_plan(self, tag: str, digest: str, plan: Plan) -> None:
        for block, start in enumerate(range(0, len(plan.stages), BLOCK_STAGES)):
            part = _pack(plan.stages[start : start + BLOCK_STAGES])
            await self._put_part(tag, digest, plan, f"b{block}", part)
        # Last, because a plan with a head is taken for a whole one, also by others if this process dies here.
        cache_ms = max(stage.cache_ms for stage in plan.stages)
        head = PlanHead(
            plan.pipeline, len(plan.stages), plan.output, plan.fail_fast, plan.finish_first, plan.keep, cache_ms, plan.finally_
        )
        routes = sorted({stage.route for stage in plan.stages})
        packed = _pack(routes if len(routes) <= _ROUTES_MAX else [ROUTES_UNCOUNTED])
        await self._put_part(tag, digest, plan, "head", _pack(head), packed)

    async def _put_part(self, tag: str, digest: str, plan: Plan, field: str, data: bytes, routes: bytes = b"") -> None:
        await self._connection.run("define", tag, digest, field, data, _PLAN_UNUSED_MS, plan.pipeline, routes)
