"""The store: one short method per script, typed in and out. Who calls it never sees a key or a reply.

Every method may be repeated: an answer that was lost is asked for again by the connection (see its header).
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowConflict, SchemaNewer
from flowq.model.outcome import Claim, Exchanged, Outcome, Progress, Token, Verdict
from flowq.model.spec import FlowSpec
from flowq.store.connection import Connection
from flowq.store.keys import HOLDERS, PLAN, WAKE_CHANNEL, Keys
from flowq.store.stored_plan import StoredPlan
from flowq.store.submissions import Submissions
from flowq.store.wire import Again, HolderInfo, PlanHead, history_decoder

SCHEMA = 1
_PLANS_CACHED = 256

_pack = msgspec.msgpack.Encoder().encode


class Retention(msgspec.Struct, frozen=True, array_like=True):
    """How long ended flows are kept, in milliseconds: three days when completed, fourteen when failed or cancelled."""

    completed_ms: int = 3 * 86_400_000
    failed_ms: int = 14 * 86_400_000
    cancelled_ms: int = 14 * 86_400_000


class Wants(msgspec.Struct, frozen=True, array_like=True):
    """What a worker would take of one queue.

    Attributes:
        capacity: how many stages; -1: as many as it has room for.
        routes: the routes it serves there.
        suspects: the routes of suspects, of which it takes one if there is nothing else.
    """

    capacity: int
    routes: tuple[str, ...]
    suspects: tuple[str, ...] = ()


class Added(msgspec.Struct, frozen=True):
    """The outcome of one submission: whether it was new, or there already."""

    flow_id: str
    is_new: bool


class Store:
    """Flows in Redis or Valkey.

    Args:
        connection: to the server.
        namespace: separates applications on one server.
        retention: how long ended flows are kept.
    """

    def __init__(self, connection: Connection, namespace: str, retention: Retention = Retention()) -> None:
        self.connection = connection
        self.keys = Keys(namespace)
        self.retention = retention
        self._plans: OrderedDict[str, StoredPlan] = OrderedDict()
        self._submissions = Submissions(connection)

    async def open(self, partitions: int = 1) -> str:
        """Reads the namespace's meta key, or writes it; returns the id that this namespace got when it was first used.

        Raises:
            SchemaNewer: the keys were written by a newer flowq.
        """
        meta = self.keys.meta
        asked = ("HMGET", meta, "schema", "partitions", "instance")
        found = await self.connection.command(*asked)
        if None in found:  # read before it is written: a full server refuses even a write that would change nothing
            first = {"schema": SCHEMA, "partitions": partitions, "instance": secrets.token_hex(8)}
            await self.connection.commands(*(("HSETNX", meta, name, value) for name, value in first.items()))
            found = await self.connection.command(*asked)
        if int(found[0]) > SCHEMA:
            raise SchemaNewer(self.keys.namespace, int(found[0]), SCHEMA)
        self.keys = Keys(self.keys.namespace, int(found[1]))
        return found[2].decode()

    async def refuse_without_channels(self) -> None:
        """Raises ServerForbids where this user may not send messages: work would go on, but each step seconds late."""
        await self.connection.command("PUBLISH", self.keys.tags[0] + WAKE_CHANNEL, "")

    async def refuse_without_writes(self) -> None:
        """Raises ServerForbids, ServerReadOnly, ServerIsFull where no key of the namespace can be written; leaves none behind."""
        key = f"{self.keys.tags[0]}:probe"
        try:
            await self.connection.commands(("HSET", key, "a", "1"), ("PEXPIRE", key, 1_000), ("HGET", key, "a"))
        finally:
            await self.connection.command("UNLINK", key)

    @property
    def partitions(self) -> list[str]:
        """The hash tags of all partitions."""
        return self.keys.tags

    # ── submitting ───────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, flows: Sequence[tuple[str, FlowSpec[Any]]]) -> list[Added]:
        """Adds flows, given as (id, spec), each all or nothing, in one call per partition.

        Raises:
            FlowConflict: an id is taken by a flow with other inputs; the others of the batch are added.
        """
        added: dict[str, bool] = {}
        by_tag: dict[str, list[tuple[str, FlowSpec[Any]]]] = {}
        for flow_id, spec in flows:
            by_tag.setdefault(self.keys.tag_of(flow_id), []).append((flow_id, spec))
        conflict: str | None = None
        for tag, group in by_tag.items():
            words = await self._submissions.submit(tag, group)
            for (flow_id, _), word in zip(group, words, strict=True):
                added[flow_id] = word == b"added"
                conflict = flow_id if word == b"conflict" else conflict
        if conflict is not None:
            raise FlowConflict(conflict)
        return [Added(flow_id, added[flow_id]) for flow_id, _ in flows]

    async def plan(self, flow_id: str, digest: str) -> StoredPlan:
        """A plan, read block by block as its stages are asked for; cached."""
        known = self._plans.get(digest)
        if known is None:
            key = self.keys.tag_of(flow_id) + PLAN + digest
            head = await self.connection.command("HGET", key, "head")
            if head is None:
                raise CorruptState(flow_id, f"plan {digest}", "it is missing")
            known = self._plans[digest] = StoredPlan(self.connection, key, msgspec.msgpack.decode(head, type=PlanHead))
            if len(self._plans) > _PLANS_CACHED:
                self._plans.popitem(last=False)
        return known

    # ── working ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def register(self, tag: str, holder: str, lease_ms: int, info: HolderInfo) -> None:
        """Announces a process that will claim; its lease begins."""
        await self.connection.run("register", tag, holder, lease_ms, _pack(info))

    async def renew(self, tag: str, lease_ms: int, holders: Sequence[str], patience: float | None = None) -> list[str]:
        """Renews leases; returns the holders that are expired: others may have their stages."""
        words = await self.connection.run("renew", tag, lease_ms, *holders, patience=patience)
        return [holder for holder, word in zip(holders, words, strict=True) if word == b"expired"]

    async def overdue(self, tag: str, longest_lease_ms: int) -> list[tuple[str, str]]:
        """Holders whose lease ran out and that may be rescued now, with the deadline that must still stand."""
        return [
            (holder.decode(), deadline.decode())
            for holder, deadline in await self.connection.run("overdue", tag, longest_lease_ms)
        ]

    async def rescue(self, tag: str, holder: str, cause: str, deadline: str = "", *, is_crash: bool) -> int:
        """Takes back all stages of a dead holder; returns how many.

        Args:
            tag: the partition.
            holder: whose process is gone.
            cause: one line for people.
            deadline: rescue only if the holder's lease still has this deadline; empty: its death is certain.
            is_crash: whether its stages may have caused it; False: it was stopped, and nobody is charged with it.
        """
        rescued = 0
        while True:
            answer = await self.connection.run("rescue", tag, holder, deadline, cause, "crash" if is_crash else "")
            if answer[0] == b"renewed":
                return rescued
            rescued += answer[1]
            if not answer[2]:
                return rescued
            deadline = ""

    async def exchange(
        self,
        tag: str,
        holder: str,
        line: int,
        seq: int,
        nonce: str,
        outcomes: Sequence[Outcome],
        progress: Sequence[Progress],
        wants: Sequence[Wants],
        capacity: int,
        parks: bool,
        permits: Mapping[str, int] = {},
    ) -> Exchanged | None:
        """The worker's one conversation, see scripts/exchange.lua; None: the holder is expired.

        The same `seq` on a line again gets the same answer.
        """
        payload = _pack((outcomes, progress, wants, capacity, parks, self.retention, permits))
        answer = await self.connection.run("exchange", tag, holder, line, seq, nonce, payload)
        if answer[0] != b"ok":
            return None
        _, now, next_due_at, verdicts, claims, cancelled, (gated, *permitted) = answer
        return Exchanged(
            now,
            next_due_at,
            [Verdict(position, word.decode(), by.decode()) for position, word, by in verdicts],
            [_claim(parts, nonce) for parts in claims],
            [(flow_id.decode(), index, fence) for flow_id, index, fence in cancelled],
            [tenant.decode() for tenant in gated],
            {position: tenant.decode() for position, tenant in permitted},
        )

    async def results(self, flow_id: str, indexes: Iterable[int]) -> dict[int, bytes]:
        """The packed results of stages, read 1,000 at a time."""
        found: dict[int, bytes] = {}
        for page in _pages(list(indexes), 1_000):
            values = await self.connection.command("HMGET", self.keys.flow(flow_id), *(f"r{index}" for index in page))
            found |= {index: value for index, value in zip(page, values, strict=True) if value is not None}
        return found

    async def earlier_results(self, flow_id: str, indexes: Iterable[int], run: int, latest: int) -> dict[int, bytes]:
        """The packed results that stages had in an earlier run: what the first retry since put aside, else what stands still."""
        found: dict[int, bytes] = {}
        for index in indexes:
            names = [*(f"r{index}.{earlier}" for earlier in range(run, latest)), f"r{index}"]
            values = await self.connection.command("HMGET", self.keys.flow(flow_id), *names)
            if (value := next((value for value in values if value is not None), None)) is not None:
                found[index] = value
        return found

    async def completed_in(self, flow_id: str, run: int) -> bool:
        """Whether a flow completed in an earlier run, before it was retried by hand."""
        return bool(await self.connection.command("HEXISTS", self.keys.flow(flow_id), f"R{run}"))

    async def literals(self, flow_id: str, indexes: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The literal arguments of stages."""
        found: dict[int, dict[str, Any]] = {}
        for page in _pages(list(indexes), 1_000):
            values = await self.connection.command("HMGET", self.keys.flow(flow_id), *(f"i{index}" for index in page))
            found |= {index: msgspec.msgpack.decode(value) if value else {} for index, value in zip(page, values, strict=True)}
        return found

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel(self, flow_id: str, reason: str, stages: int, cursor: int = 0) -> str:
        """Cancels a flow; returns `cancelled`, `unknown`, or the status letter of a flow that had ended."""
        while True:
            tag = self.keys.tag_of(flow_id)
            answer = await self.connection.run("cancel", tag, flow_id, reason, cursor, stages, _pack(self.retention))
            if answer[0] != b"closing":
                return (answer[1] if answer[0] == b"ended" else answer[0]).decode()
            cursor = answer[1]

    async def retry(self, flow_id: str, seq: int, again: Again) -> bool:
        """Makes stages of an ended flow ready again; False: the flow has changed since `seq`.

        Args:
            flow_id: the flow.
            seq: the number of its last event when the caller looked.
            again: which stages, and what else changes.
        """
        answer = await self.connection.run("retry", self.keys.tag_of(flow_id), flow_id, seq, _pack(again))
        return answer[0] == b"retried"

    async def last_crash(self, flow_id: str, index: int) -> str:
        """Why the process under the latest run of a stage was lost."""
        data = await self.connection.command("HGET", self.keys.flow(flow_id), f"h{index}")
        entries = history_decoder.decode(data) if data else []
        return entries[-1].cause if entries else ""

    async def prune(self, tag: str, before_ms: int, flows: Sequence[bytes]) -> int:
        """Removes ended flows, each given as its plan's digest and its id in one word; returns how many."""
        return await self.connection.run("prune", tag, before_ms, *flows) if flows else 0

    async def lease_of(self, tag: str, holder: str) -> int | None:
        """The deadline of a holder's lease, milliseconds since 1970."""
        score = await self.connection.command("ZSCORE", tag + HOLDERS, holder)
        return None if score is None else int(score)

    async def close(self) -> None:
        """Closes the connections."""
        await self.connection.close()


def _claim(parts: Sequence[Any], nonce: str) -> Claim:
    flow_id, index, plan, fence, attempt, crashes, priority, created_at, literals, results, route = parts
    return Claim(
        flow_id.decode(), index, plan.decode(), Token(fence, nonce), attempt, crashes, priority, created_at, literals,
        None if results is None else dict(results), route.decode(),
    )  # fmt: skip


def _pages(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
