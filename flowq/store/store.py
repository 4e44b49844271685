"""The store: one short method per script, typed in and out. Who calls it never sees a key or a reply.

Every method may be repeated: an answer that was lost is asked for again by the connection (see its header).
"""

from __future__ import annotations

import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowConflict, FlowNotFound, SchemaNewer
from flowq.model.exchanged import Exchanged
from flowq.model.outcome import Note, Outcome, Progress
from flowq.model.spec import FlowSpec
from flowq.model.values import sendable
from flowq.store.connection import Connection
from flowq.store.damage import text_of
from flowq.store.exchanged import exchanged_of
from flowq.store.keys import HOLDERS, RUNNING, Keys
from flowq.store.literals import literals_in, names_of_literals
from flowq.store.retentions import OwnRetentions, Retention
from flowq.store.retries import finish_retry, retry
from flowq.store.stored_plan import StoredPlan
from flowq.store.submissions import Added, Submissions, added_as, calls_of
from flowq.store.wants import Wants, served
from flowq.store.wire import Again, HolderInfo, history_decoder

SCHEMA = 1
_PLANS_CACHED = 256

_pack = msgspec.msgpack.Encoder().encode


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
        self._own_retentions = OwnRetentions()
        self._submissions = Submissions(connection)

    async def open(self, partitions: int | None = None) -> str:
        """Reads the namespace's meta key, or writes it; returns the id that this namespace got when it was first used.

        From then on its flows are spread over so many partitions; None: over as many as suit the servers.

        Raises:
            SchemaNewer: the keys were written by a newer flowq.
        """
        asked = ("HMGET", self.keys.meta, "schema", "partitions", "instance")
        found = await self.connection.command(*asked)
        if None in found:  # read before it is written: a full server refuses even a write that would change nothing
            await self.refuse_without_rights()
            partitions = partitions or await self.connection.partitions()
            first = {"schema": SCHEMA, "partitions": partitions, "instance": secrets.token_hex(8)}
            await self.connection.commands(*(("HSETNX", self.keys.meta, name, value) for name, value in first.items()))
            found = await self.connection.command(*asked)
        if int(found[0]) > SCHEMA:
            raise SchemaNewer(self.keys.namespace, int(found[0]), SCHEMA)
        self.keys = Keys(self.keys.namespace, int(found[1]))
        return found[2].decode()

    async def refuse_without_rights(self) -> None:
        """Raises ServerForbids where this user may not all that flowq asks for. Whoever only reads need not be asked."""
        await self.connection.refuse_without_rights(self.keys.tags[0])

    @property
    def partitions(self) -> list[str]:
        """The hash tags of all partitions."""
        return self.keys.tags

    # ── submitting ───────────────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, flows: Sequence[tuple[str, FlowSpec[Any]]]) -> list[Added]:
        """Adds flows, given as (id, spec), each all or nothing, in one call per partition, or several if they are large.

        Raises:
            FlowConflict: ids are taken by flows with other inputs; the others of the batch are added.
        """
        added: dict[str, Added] = {}
        conflicts: set[str] = set()
        for tag, group in calls_of(flows, self.keys.tag_of):
            words: list[bytes | tuple[bytes, bytes]] = await self._submissions.submit(tag, group)
            for (flow_id, _), word in zip(group, words, strict=True):
                added[flow_id] = added_as(flow_id, word)
                if word == b"conflict":
                    conflicts.add(flow_id)
        if conflicts:
            first, *others = (flow_id for flow_id in dict(flows) if flow_id in conflicts)
            raise FlowConflict(first, others=others)
        return [added[flow_id] for flow_id, _ in flows]

    async def plan(self, flow_id: str, digest: str) -> StoredPlan:
        """A plan, read block by block as its stages are asked for; cached."""
        tag = self.keys.tag_of(flow_id)  # what is left to read of it must not be looked for where its last flow was pruned
        known = self._plans.get(tag + digest)
        if known is None:
            read = await StoredPlan.opened(self.connection, flow_id, tag, digest)
            known = self._plans.setdefault(tag + digest, read)  # many stages of a flow begin at once: one reading for all
            self._own_retentions.note(digest, known.head.keep)
            if len(self._plans) > _PLANS_CACHED:
                self._plans.popitem(last=False)
        return known

    @contextlib.asynccontextmanager
    async def unless_removed(self, flow_id: str) -> AsyncGenerator[None]:
        """What is missing of a flow that was removed while it is read in here is no damage. Raises FlowNotFound instead."""
        try:
            yield
        except CorruptState:
            if not await self.connection.command("EXISTS", self.keys.flow(flow_id)):
                raise FlowNotFound(flow_id) from None
            raise

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
        late = await self.connection.run("overdue", tag, longest_lease_ms)
        return [(text_of(holder), deadline.decode()) for holder, deadline in late]

    async def is_alone(self, holder: str) -> bool:
        """Whether a dead holder had just one stage, all partitions counted: then nothing else can have crashed its process."""
        try:
            counts = await self.connection.commands(*(("SCARD", tag + RUNNING + holder) for tag in self.partitions))
        except CorruptState:  # what it ran can't be known: nobody is to blame
            return False
        return sum(counts) == 1

    async def rescue(
        self, tag: str, holder: str, cause: str, deadline: str = "", *, is_crash: bool, is_alone: bool = False
    ) -> int:
        """Takes back all stages of a dead holder; returns how many.

        Args:
            tag: the partition.
            holder: whose process is gone.
            cause: one line for people.
            deadline: rescue only if the holder's lease still has this deadline; empty: its death is certain.
            is_crash: whether its stages may have caused it; False: it was stopped, and nobody is charged with it.
            is_alone: as `is_alone` said before the first partition's were taken: its only stage is charged with a crash.
        """
        rescued = 0
        while True:
            blame = "" if not is_crash else "culprit" if is_alone else "suspects"
            answer = await self.connection.run("rescue", tag, holder, deadline, cause, blame)
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
        notes: Sequence[Note] = (),
        permits: Mapping[str, int] = {},
        looks: bool = False,
    ) -> Exchanged | None:
        """The worker's one conversation, see scripts/exchange.lua; None: the holder is expired.

        The same `seq` on a line again gets the same answer.

        Raises:
            ValueNotStorable: something in it can't be packed; nothing was sent.
        """
        bounds = [(want.capacity,) for want in wants]
        said = (outcomes, progress, bounds, capacity, parks, self._own_retentions.beside(self.retention))
        payload = sendable((*said, notes, permits, looks) if notes or permits or looks else said)
        answer = await self.connection.run("exchange", tag, holder, line, seq, nonce, payload, served(wants))
        return exchanged_of(answer, nonce) if answer[0] == b"ok" else None

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
        runs = [*(f".{earlier}" for earlier in range(run, latest)), ""]
        for page in _pages(list(indexes), max(1, 1_000 // len(runs))):
            names = [f"r{index}{of_run}" for index in page for of_run in runs]
            values = await self.connection.command("HMGET", self.keys.flow(flow_id), *names)
            for position, index in enumerate(page):
                of_index = values[position * len(runs) : (position + 1) * len(runs)]
                if (value := next((value for value in of_index if value is not None), None)) is not None:
                    found[index] = value
        return found

    async def completed_in(self, flow_id: str, run: int) -> bool:
        """Whether a flow completed in an earlier run, before it was retried by hand."""
        return bool(await self.connection.command("HEXISTS", self.keys.flow(flow_id), f"R{run}"))

    async def literals(self, flow_id: str, indexes: Sequence[int]) -> dict[int, dict[str, Any]]:
        """The literal arguments of stages."""
        found: dict[int, dict[str, Any]] = {}
        for page in _pages(list(indexes), 1_000):
            found |= literals_in(page, await self.connection.command("HMGET", self.keys.flow(flow_id), *names_of_literals(*page)))
        return found

    # ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def cancel(self, flow_id: str, reason: str, stages: int, beneath: list[str] | None = None) -> str:
        """Cancels a flow; returns how it ended, `unknown`, or the status letter of one that had. `beneath` gets the ids of flows
        beneath it that close with it: they are to be finished, too."""
        return await self._close(flow_id, reason, secrets.token_hex(8), stages, beneath)

    async def finish_closing(self, flow_id: str, stages: int, beneath: list[str] | None = None) -> str:
        """Finishes what `cancel`, or a failure or a deadline that ends its flow at once, began; nothing if it is finished."""
        return await self._close(flow_id, "", "", stages, beneath)

    async def _close(self, flow_id: str, reason: str, nonce: str, stages: int, beneath: list[str] | None) -> str:
        if digest := await self.connection.command("HGET", self.keys.flow(flow_id), "p"):  # its plan may say how long it is kept
            with contextlib.suppress(CorruptState):
                await self.plan(flow_id, digest.decode("utf-8", "backslashreplace"))
        tag, retention = self.keys.tag_of(flow_id), _pack(self._own_retentions.beside(self.retention))
        while True:
            word, *more = await self.connection.run("cancel", tag, flow_id, reason, nonce, stages, retention)
            if word == b"ended":
                return more[0].decode()
            if more and beneath is not None:
                beneath += map(bytes.decode, more[0])
            if word != b"closing":
                return word.decode()
            nonce = ""  # what it began is to be finished, not begun again should somebody else be faster

    async def retry(self, flow_id: str, seq: int, again: Again, hooks_seq: int = 0, spawner: object = None) -> bool:
        """Makes stages of an ended flow ready again; False: it has changed since `seq`. Raises RetryOutOfTurn.

        Args:
            flow_id: the flow.
            seq: the number of its last event when the caller looked.
            again: which stages, and what else changes.
            hooks_seq: the same of its hooks; 0: it has none.
            spawner: the run of a stage that waits for it (see scripts/spawn.lua), under its token; False also if that is over.
        """
        return await retry(self.connection, self.keys.tag_of(flow_id), flow_id, seq, again, hooks_seq, spawner)

    async def finish_retry(self, flow_id: str) -> None:
        """Finishes a retry of many stages that was begun; nothing if it is finished."""
        await finish_retry(self.connection, self.keys.tag_of(flow_id), flow_id)

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
        return None if (score := await self.connection.command("ZSCORE", tag + HOLDERS, holder)) is None else int(score)

    async def close(self) -> None:
        """Closes the connections."""
        await self.connection.close()


def _pages(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
