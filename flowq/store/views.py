"""Reading flows: heads, headers, summaries; and who works, and what is being closed. Never scans keys, never changes a flow."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any

import msgspec

from flowq.errors import CorruptState, FlowNotFound
from flowq.model.fleet import WorkerSnapshot
from flowq.model.snapshot import FlowSummary
from flowq.model.states import FlowState
from flowq.store.damage import read_in_pages, sound, text_of
from flowq.store.keys import CANCELLED, CLOSING, DUE, EVENTS, FAILED, FINISHED, HOLDER, HOLDERS, LIVE, RUNNING
from flowq.store.literals import INPUTS, inputs_in
from flowq.store.ready import partitions_with_ready
from flowq.store.room_in_use import room_in_use
from flowq.store.store import Store
from flowq.store.wire import Head, Header, HolderInfo, Record

log = logging.getLogger("flowq.store")

FLOW_STATES: dict[str, FlowState] = {
    "s": "scheduled",
    "r": "ready",
    "x": "running",
    "p": "paused",
    "o": "running",
    "z": "cancelled",
    "y": "failed",
    "c": "completed",
    "f": "failed",
    "k": "cancelled",
}
_LIVE_STATES = ("scheduled", "ready", "running", "suspended", "paused")
_PAGE = 200
_HOUR_MS = 3_600_000

head_decoder = msgspec.msgpack.Decoder(Head)
header_decoder = msgspec.msgpack.Decoder(Header)
record_decoder = msgspec.msgpack.Decoder(Record)
info_decoder = msgspec.msgpack.Decoder(HolderInfo)


def state_of(head: Head) -> FlowState:
    """The flow's state: `suspended` when all of it that has not ended, and waits for no other stage, is suspended."""
    return "suspended" if head.status == "x" and 0 < head.away == head.active else FLOW_STATES[head.status]


class Views:
    """Questions about many flows, and about workers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection = store.connection

    async def now(self) -> int:
        """The server's time, milliseconds since 1970."""
        seconds, micros = await self._connection.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def header(self, flow_id: str) -> Header:
        """What was said of a flow when it was added. Raises FlowNotFound."""
        data, *more = await self._connection.command("HMGET", self._store.keys.flow(flow_id), "o", *INPUTS)
        if data is None:
            raise FlowNotFound(flow_id)
        try:
            header = header_decoder.decode(data)
            return header if header.inputs else msgspec.structs.replace(header, inputs=inputs_in(more))
        except msgspec.DecodeError as error:
            raise CorruptState(flow_id, "its header", str(error)) from None

    async def stages_of(self, flow_id: str) -> int:
        """How many stages a flow has; 0: there is no such flow (any more). Raises CorruptState."""
        digest = await self._connection.command("HGET", self._store.keys.flow(flow_id), "p")
        return 0 if digest is None else (await self._store.plan(flow_id, digest.decode("utf-8", "backslashreplace"))).head.stages

    async def head(self, flow_id: str) -> Head:
        """The flow's counters and times. Raises FlowNotFound."""
        return (await self.head_and_plan(flow_id))[0]

    async def head_and_plan(self, flow_id: str, results: Sequence[int] = ()) -> tuple[Head, str, dict[int, bytes]]:
        """The flow's counters and times, the digest of its plan, and of these stages the packed results that there are.

        Without a digest the plan is missing.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        names = ["m", "p", *(f"r{index}" for index in results)]
        data, digest, *values = await self._connection.command("HMGET", self._store.keys.flow(flow_id), *names)
        if data is None:
            raise FlowNotFound(flow_id)
        known = {index: value for index, value in zip(results, values, strict=True) if value is not None}
        try:
            return head_decoder.decode(data), text_of(digest or b""), known
        except ValueError as error:
            raise CorruptState(flow_id, "its head", str(error)) from None

    async def heads(self, flow_ids: list[str]) -> list[tuple[str, Head] | None]:
        """Plan digest and head of each flow; None for those that are gone or damaged."""
        values = await self._connection.readable(*(("HMGET", self._store.keys.flow(flow_id), "p", "m") for flow_id in flow_ids))
        heads = [(digest, sound(head_decoder, data)) for digest, data in (value or (None, None) for value in values)]
        return [(text_of(digest), head) if digest is not None and head is not None else None for digest, head in heads]

    async def exists(self, flow_id: str) -> bool:
        """Whether there is such a flow."""
        return bool(await self._connection.command("EXISTS", self._store.keys.flow(flow_id)))

    def indexes(self, state: str | None = None) -> list[AsyncIterator[list[str]]]:
        """Ids in pages, one iterator per index and partition, the newest first in each.

        Args:
            state: leave out indexes that can't hold flows in this state.
        """
        found: list[AsyncIterator[list[str]]] = []
        for tag in self._store.partitions:
            for key, states in ((LIVE, _LIVE_STATES), (FAILED, ("failed",)), (CANCELLED, ("cancelled",))):
                if state is None or state in states:
                    found.append(self._indexed(tag + key))
            if state is None or state == "completed":
                found.append(self._finished(tag))
        return found

    async def summaries(self, flow_ids: list[str]) -> list[FlowSummary]:
        """What `flowq list` shows of these flows; those that are gone are left out, and those that are damaged."""
        values = await self._connection.readable(*(("HMGET", self._store.keys.flow(flow_id), "m", "o") for flow_id in flow_ids))
        found: list[FlowSummary] = []
        for flow_id, value in zip(flow_ids, values, strict=True):
            if value == [None, None]:
                continue
            head_data, header_data = value or (None, None)
            head, header = sound(head_decoder, head_data), sound(header_decoder, header_data)
            if head is None or header is None or head.status not in FLOW_STATES:
                log.warning("flow %s is damaged and left out", flow_id)
                continue
            found.append(
                FlowSummary(
                    id=flow_id,
                    pipeline=header.pipeline,
                    state=state_of(head),
                    created_at=head.created_at,
                    ended_at=head.ended_at or None,
                    stages=header.stages,
                    finished=header.stages - head.unfinished + head.failures,
                    failed=head.failures,
                    tenant=header.tenant,
                    tags=header.tags,
                    cause=cause_of(head)[1],
                )
            )
        return found

    async def workers(self) -> list[WorkerSnapshot]:
        """All processes that hold a lease now."""
        return (await self.serving())[0]

    async def serving(self) -> tuple[list[WorkerSnapshot], list[Collection[str]]]:
        """All processes that hold a lease now, and the routes that each of them serves."""
        now, tags = await self.now(), self._store.partitions
        by_id: dict[str, WorkerSnapshot] = {}
        infos: dict[str, HolderInfo] = {}
        scored = await self._connection.commands(*(("ZRANGE", tag + HOLDERS, 0, -1, "WITHSCORES") for tag in tags))
        leases = [(tag, *lease) for tag, flat in zip(tags, scored, strict=True) for lease in pairs(flat)]
        asked: list[tuple[Any, ...]] = []
        for tag, holder, _ in leases:
            asked += [("HMGET", tag + HOLDER + holder, "info", "since"), ("SCARD", tag + RUNNING + holder)]
        answers = await read_in_pages(self._connection, asked)
        for (_, holder, deadline), of_holder, running in zip(leases, answers[::2], answers[1::2], strict=True):
            info_data, since = of_holder or (None, None)
            info = sound(info_decoder, info_data)
            if info is None or deadline <= now:
                continue
            known, infos[holder] = by_id.get(holder), info
            by_id[holder] = WorkerSnapshot(
                id=holder, name=info.name, queues=info.queues, stages=info.stages,
                running=(running or 0) + (known.running if known else 0), lease_seconds=(deadline - now) / 1000,
                is_alone=info.is_alone, pipelines=info.pipelines, has=info.has, concurrency=info.concurrency,
                since=None if since is None else int(since),
            )  # fmt: skip
        used = await room_in_use(self._connection, self._store.partitions, infos)
        found = [
            msgspec.structs.replace(worker, in_use=dict(used[host])) if (host := infos[worker.id].host) in used else worker
            for worker in by_id.values()
        ]
        return sorted(found, key=lambda worker: worker.name), [info.routes for info in infos.values()]

    async def waiting(self, routes: Collection[str]) -> list[str]:
        """The partitions in which a stage of these routes is ready, and neither its queue nor what it belongs to is paused."""
        return await partitions_with_ready(self._store, routes)

    async def scheduled(self) -> int:
        """How many stages wait for a time."""
        counts = await self._connection.commands(*(("ZCARD", tag + DUE) for tag in self._store.partitions))
        return sum(counts)

    async def closing(self) -> list[str]:
        """What is being closed: see `finish_closing`."""
        found = await self._connection.readable(*(("ZRANGE", tag + CLOSING, 0, _PAGE - 1) for tag in self._store.partitions))
        return [text_of(member) for members in found for member in members or ()]

    async def trim_events(self, kept_ms: int, most: int) -> None:
        """Bounds the event streams by age and by length. Each write keeps them below the greatest length there may be."""
        oldest, streams = max(0, await self.now() - kept_ms), [tag + EVENTS for tag in self._store.partitions]
        await self._connection.readable(*(("XTRIM", stream, "MINID", "~", oldest) for stream in streams))
        await self._connection.readable(*(("XTRIM", stream, "MAXLEN", "~", most) for stream in streams))

    async def committed(self, folders: Iterable[Any]) -> set[Any]:
        """Of (flow, stage, token): those whose objects are needed, because that run committed or still runs.

        Objects of flows that are not known here (any more) count as needed: outputs outlive the flow's record. So do those of
        flows that can't be read.
        """
        return {folder for folder in folders if await self._may_be_needed(folder)}

    async def _may_be_needed(self, folder: Any) -> bool:
        try:
            return await self._is_needed(folder)
        except (CorruptState, ValueError):  # a key of another type, no msgpack, or texts that are none
            return True

    async def _is_needed(self, folder: Any) -> bool:
        key = self._store.keys.flow(folder.flow_id)
        digest, head_data = await self._connection.command("HMGET", key, "p", "m")
        if digest is None or head_data is None:
            return True
        plan = await (await self._store.plan(folder.flow_id, digest.decode())).whole()
        index = plan.find(folder.stage)
        if index is None:
            return False
        # What earlier runs of the flow left, before it was retried by hand, is kept beside the latest.
        runs = range(1, head_decoder.decode(head_data).run)
        earlier = (f"{kind}{index}.{run}" for run in runs for kind in ("a", "r"))
        record_data, *kept = await self._connection.command("HMGET", key, str(index), *earlier)
        if any(data is not None and f"/{folder.token}/".encode() in data for data in kept):
            return True
        if record_data is None:
            return False
        record = record_decoder.decode(record_data)
        return record.state in ("c", "x") and f"{record.fence}-{record.nonce}" == folder.token

    async def _indexed(self, key: str) -> AsyncIterator[list[str]]:
        start = 0
        while page := await self._connection.command("ZREVRANGE", key, start, start + _PAGE - 1):
            yield [text_of(flow_id) for flow_id in page]
            start += _PAGE

    async def _finished(self, tag: str) -> AsyncIterator[list[str]]:
        this_hour = await self.now() // _HOUR_MS
        for hour in range(this_hour, this_hour - self._store.retention.completed_ms // _HOUR_MS - 2, -1):
            end = -1
            while page := await self._connection.command("LRANGE", f"{tag}{FINISHED}{hour}", end - _PAGE + 1, end):
                yield [text_of(entry[16:]) for entry in reversed(page)]
                end -= _PAGE
                if len(page) < _PAGE:
                    break


def pairs(flat: list[Any]) -> list[tuple[str, int]]:
    """Members and scores, however this version of the client library gives them."""
    if flat and isinstance(flat[0], list | tuple):
        return [(text_of(member), int(score)) for member, score in flat]
    return [(text_of(flat[position]), int(flat[position + 1])) for position in range(0, len(flat), 2)]


def cause_of(head: Head) -> tuple[int | None, str]:
    """Of a failed flow: the index of the stage that failed first and `ErrorType: first line`; (None, "") for others."""
    if FLOW_STATES[head.status] != "failed":
        return None, ""
    index, found, cause = head.reason.partition(" ")
    return (int(index), cause) if found and index.isdecimal() else (None, head.reason)
