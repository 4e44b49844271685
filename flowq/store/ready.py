"""What waits in lanes, as a claim would find it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from flowq.model.items import ITEMS, stage_of
from flowq.model.names import parent_id
from flowq.store.connection import Connection
from flowq.store.damage import read_in_pages, sound, text_of
from flowq.store.keys import FLOW, PLAN
from flowq.store.lane_names import Lane, lanes_of
from flowq.store.pauses import Pauses, unpaused
from flowq.store.store import Store
from flowq.store.wire import Head, Record, group_decoder

# So many lanes are looked through side by side, so many entries at once.
_LANES: Final = 100
_PAGE: Final = 500

_head = msgspec.msgpack.Decoder(Head)
_record = msgspec.msgpack.Decoder(Record)

# `index:flow`, `first-last:flow`, with `@since` or `@since+ms` where a flow's first stages or a map's items wait, `+` where a
# resumed one does: see scripts/lanes.lua.
_ENTRY: Final = re.compile(r"(\d{1,15})(?:-(\d{1,15}))?(?:@(\d{1,15})(?:\+(\d{1,15}))?|\+)?:(.+)")


class Waiting(NamedTuple):
    """What is ready by one entry of a lane: how many stages, if not at most so many, and since when; None: not known."""

    stages: int
    since: int | None
    is_estimate: bool = False


class Entry(NamedTuple):
    """An entry of a lane.

    Attributes:
        lane: which.
        flow_id: of which flow.
        first, last: its stages.
        born_at: when what brought it began: its flow, or of items their map; None: it does not say.
        since: when it was ready; None: its record says it.
    """

    lane: Lane
    flow_id: str
    first: int
    last: int
    born_at: int | None
    since: int | None

    @classmethod
    def of(cls, lane: Lane, text: bytes) -> Entry | None:
        """What stands there; None: rubbish."""
        if (parts := _ENTRY.fullmatch(text.decode("utf-8", "replace"))) is None:
            return None
        first, last, stamp, late_ms, flow_id = parts.groups()
        born_at = None if stamp is None else int(stamp)
        since = None if born_at is None else born_at + int(late_ms or 0)
        return cls(lane, flow_id, int(first), int(last or first), born_at, since)

    @property
    def question(self) -> tuple[str, ...]:
        """What has to be known to judge it."""
        stage = stage_of(self.first)
        of_map = (str(stage), f"G{stage}") if self.first >= ITEMS else ()
        return "HMGET", self.lane.tag + FLOW + self.flow_id, "m", "p", str(self.first), *of_map

    def judged(self, head_data: bytes | None, _: Any, record_data: bytes | None, *of_map: bytes | None) -> Waiting | None:
        """What a claim would get by it (scripts/claim.lua), if nothing above the flow is paused; of a range all of it."""
        head, record = sound(_head, head_data), sound(_record, record_data)
        if head is None or head.status not in ("r", "x") or (record is None and record_data is not None):
            return None
        born_at = _opened_at(*of_map) if of_map else head.created_at
        if born_at is None or self.born_at not in (None, born_at):
            return None
        is_ready = record is not None and (record.state, record.route) == ("r", self.lane.route)
        # An item that failed or was cancelled in an earlier run begins anew.
        is_first = self.born_at is not None and (record is None or (bool(of_map) and record.state in ("f", "k")))
        if not is_ready and not is_first and self.last == self.first:
            return None
        since = record.ready_at if self.since is None and record is not None and is_ready else self.since
        # Items that ended in an earlier run of the flow are passed over one by one, when they are claimed.
        return Waiting(max(0, self.last - self.first + 1), since, is_estimate=bool(of_map) and head.run > 1)


def _opened_at(record_data: bytes | None, group_data: bytes | None) -> int | None:
    record, group = sound(_record, record_data), sound(group_decoder, group_data)
    return group.opened_at if group is not None and record is not None and record.state == "u" else None


async def judged(connection: Connection, entries: Sequence[Entry], pipelines: Collection[str]) -> list[Waiting | None]:
    """What a claim would get by each of these entries while these pipelines are paused; None: it drops it, or puts it aside."""
    answers = await read_in_pages(connection, [entry.question for entry in entries])
    flows = {(entry.lane.tag, entry.flow_id): answer and answer[1] for entry, answer in zip(entries, answers, strict=True)}
    held = await held_by_pauses(connection, flows, pipelines)
    return [
        None if not answer or (entry.lane.tag, entry.flow_id) in held else entry.judged(*answer)
        for entry, answer in zip(entries, answers, strict=True)
    ]


async def held_by_pauses(
    connection: Connection, flows: Mapping[tuple[str, str], bytes | None], pipelines: Collection[str]
) -> set[tuple[str, str]]:
    """Those of these flows, each with its partition and its plan, above which a flow is paused, or whose pipeline is."""
    above = list({(tag, over) for tag, flow_id in flows for over in _above(flow_id)})
    answers = await read_in_pages(connection, [("HGET", tag + FLOW + flow_id, "m") for tag, flow_id in above])
    heads = [(flow, sound(_head, data)) for flow, data in zip(above, answers, strict=True)]
    paused = {flow for flow, head in heads if head is not None and head.status == "p"}
    plans = {(tag, digest) for (tag, _), digest in flows.items() if pipelines and digest}
    of_pipelines = await _plans_of(connection, list(plans), pipelines)
    return {
        (tag, flow_id)
        for (tag, flow_id), digest in flows.items()
        if (tag, digest) in of_pipelines or any((tag, over) in paused for over in _above(flow_id))
    }


def _above(flow_id: str) -> Iterator[str]:
    while above := parent_id(flow_id):
        yield above
        flow_id = above


async def _plans_of(
    connection: Connection, plans: Sequence[tuple[str, bytes]], pipelines: Collection[str]
) -> set[tuple[str, bytes]]:
    """Those of these plans, each in its partition, that are of these pipelines."""
    names = await read_in_pages(connection, [("HGET", tag + PLAN + text_of(digest), "pipeline") for tag, digest in plans])
    return {plan for plan, name in zip(plans, names, strict=True) if name is not None and text_of(name) in pipelines}


async def partitions_with_ready(store: Store, routes: Collection[str]) -> list[str]:
    """The partitions in which a claim would find a stage of these routes."""
    lanes = await lanes_of(store.connection, store.partitions, routes)
    pauses = await Pauses(store).every() if lanes else []
    pipelines = {pause.name for pause in pauses if pause.kind == "pipeline"}
    is_open = unpaused(routes, pauses)
    lanes = [lane for lane in lanes if lane.route in is_open]
    found: set[str] = set()
    for start in range(0, len(lanes), _LANES):
        found |= await _ready_in(store.connection, lanes[start : start + _LANES], found, pipelines)
    return [tag for tag in store.partitions if tag in found]


async def _ready_in(connection: Connection, lanes: list[Lane], known: Collection[str], pipelines: Collection[str]) -> set[str]:
    """The partitions in which something is ready in these lanes, of those that are not known yet to have such."""
    found, end = set[str](), -1
    # From their ends, where nobody takes entries off between two pages; of most lanes the last entry is enough.
    while left := [lane for lane in lanes if lane.tag not in known and lane.tag not in found]:
        each = 1 if end == -1 else max(1, _PAGE // len(left))
        pages = await read_in_pages(connection, [("LRANGE", lane.key, end - each + 1, end) for lane in left])
        texts = [(lane, text) for lane, page in zip(left, pages, strict=True) for text in page or ()]
        entries = [entry for lane, text in texts if (entry := Entry.of(lane, text)) is not None]
        waiting = await judged(connection, entries, pipelines)
        found |= {entry.lane.tag for entry, stages in zip(entries, waiting, strict=True) if stages is not None}
        lanes, end = [lane for lane, page in zip(left, pages, strict=True) if page], end - each
    return found
