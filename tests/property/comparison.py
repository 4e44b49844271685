"""Reads all there is of a namespace in one call, and holds it against the model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby

import msgspec

from flowq.model.states import STATE_LETTER
from flowq.store.events import events_of
from flowq.store.item_snapshots import item_state
from flowq.store.keys import CANCELLED, EVENTS, FAILED, FLOW, PLAN, ROUTES, ROUTES_STAMP, TREE, TREES
from flowq.store.remembered import link_decoder, remembered_decoder
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES, head_decoder, record_decoder
from flowq.store.wire import Group, Record, group_decoder
from tests.property.flows import ENDED, OPEN, Flow, Stage
from tests.property.flows import FLOW as OF_FLOW
from tests.property.model import Model
from tests.property.world import BENEATH, ITSELF

# ARGV: how many tags, the tags, how many flows, their keys, the last event read of each tag, holders.
_READ = """
local count, tags, flows, position = tonumber(ARGV[1]), {}, {}, 2
for number = 1, count do tags[number], position = ARGV[position], position + 1 end
local keys = tonumber(ARGV[position])
for number = 1, keys do
  local key = ARGV[position + number]
  flows[number] = {redis.call('HGETALL', key), redis.call('PTTL', key)}
end
position = position + keys
local seen = {}
for number, tag in ipairs(tags) do
  local entries = redis.call('XRANGE', tag .. ':events', '(' .. ARGV[position + number], '+')
  local of_tag = {entries, redis.call('HKEYS', tag .. ':paused')}
  for _, index in ipairs({':due', ':closing', ':live', ':failed', ':cancelled'}) do
    of_tag[#of_tag + 1] = redis.call('ZRANGE', tag .. index, 0, -1)
  end
  for holder = position + count + 1, #ARGV do of_tag[#of_tag + 1] = redis.call('SMEMBERS', tag .. ':x:' .. ARGV[holder]) end
  seen[number] = of_tag
end
return {flows, seen}
"""

_STATES = FLOW_STATES | {"y": "failing", "z": "closing"}
# Beside flows that have ended: their plans and indexes, and what live processes say of themselves.
_LEFT_WHEN_ENDED = (
    FLOW,
    ":p:",
    ":h:",
    ":holders",
    EVENTS,
    FAILED,
    CANCELLED,
    ":finished:",
    ":by:",
    ":pipelines",
    ROUTES,
    TREE,
    TREES,
)
_LEFT_WHEN_REMOVED = (":holders", EVENTS, ":finished:")


class Reality:
    """What the server holds of a namespace.

    Args:
        store: where.
        flow_ids: the flows that there may be; others may be added to them.
    """

    def __init__(self, store: Store, flow_ids: Sequence[str]) -> None:
        self.store = store
        self.flow_ids = flow_ids
        self.events: defaultdict[str, list[tuple[int, str, int, int]]] = defaultdict(list)
        self._last: dict[str, str] = {}

    async def read(self, holders: Sequence[str]) -> tuple[dict[str, tuple[dict[str, bytes], int]], list[set[str]]]:
        """The fields and times to live of all flows; and the members of all indexes, those of the partitions together."""
        tags = self.store.partitions
        keys = [self.store.keys.flow(flow_id) for flow_id in self.flow_ids]
        last = [self._last.get(tag, "0-0") for tag in tags]
        flows, seen = await self.store.connection.command("EVAL", _READ, 0, len(tags), *tags, len(keys), *keys, *last, *holders)
        found = {
            flow_id: ({name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}, ttl)
            for flow_id, (flat, ttl) in zip(self.flow_ids, flows, strict=True)
            if flat
        }
        indexes: list[set[str]] = [set() for _ in range(6 + len(holders))]
        for tag, (entries, *members) in zip(tags, seen, strict=True):
            for entry, fields in entries:
                self._last[tag] = entry.decode()
                self._note(fields[1])
            for index, more in zip(indexes, members, strict=True):
                index |= {member.decode() for member in more}
        return found, indexes

    def _note(self, packed: bytes) -> None:
        for event in events_of(packed):
            self.events[event.flow_id].append((event.seq, event.verb, event.stage, event.attempt))

    async def check_ended(self, model: Model) -> None:
        """When every flow has ended, only the indexes of ended flows know them."""
        for key in await self._keys():
            word = key.partition("}")[2]
            assert word == ":meta" or word.startswith(_LEFT_WHEN_ENDED), f"{key} is left though all flows have ended"
        for tag in self.store.partitions:
            await self._check_routes(tag)
        for flow_id, flow in model.flows.items():
            assert flow.state in ENDED
            _check_story(self.events[flow_id], flow.seq)

    async def check_removed(self) -> None:
        """When they are removed, nothing of them is left."""
        for key in await self._keys():
            word = key.partition("}")[2]
            # The plan of what a stage spawned stays for a while.
            is_leaving = word.startswith(PLAN) and await self.store.connection.command("PTTL", key) > 0
            is_known = word == ":meta" or word.startswith(_LEFT_WHEN_REMOVED) or is_leaving
            assert is_known, f"{key} is left though all flows were removed"

    async def _check_routes(self, tag: str) -> None:
        """Each route is counted once for each plan that has flows and names it."""
        connection, named = self.store.connection, Counter[str]()
        for key in await self._keys():
            if key.startswith(tag + PLAN):
                flows, routes = await connection.command("HMGET", key, "flows", "routes")
                named.update(msgspec.msgpack.decode(routes, type=list[str]) if int(flows or 0) > 0 else ())
        names = [name.decode() for name in await connection.command("HKEYS", tag + ROUTES) if name != ROUTES_STAMP.encode()]
        counts = await connection.command("HMGET", tag + ROUTES, *names) if names else []
        assert dict(zip(names, map(int, counts), strict=True)) == named, "routes are not counted as plans name them"

    async def _keys(self) -> list[str]:
        found: list[bytes] = await self.store.connection.command("KEYS", f"{{{self.store.keys.namespace}[:}}]*")
        return [key.decode() for key in found]


def _check_story(events: Sequence[tuple[int, str, int, int]], seq: int) -> None:
    """Each run that was claimed has exactly one end, and the flow one for each of its runs; said without the model."""
    running: set[int] = set()
    is_over = False
    for _, verb, index, _ in events[len(events) - seq :]:
        if index == OF_FLOW:
            assert not (is_over and verb in ENDED), f"the flow ended twice: {events}"
            is_over = is_over or verb in ENDED
        elif verb == "claimed":
            assert index not in running, f"{index} was claimed while it ran: {events}"
            assert not is_over, f"{index} was claimed of a flow that had ended: {events}"
            running.add(index)
        elif verb in ("completed", "failed", "skipped", "rescued", "suspended") and index in running:
            running.remove(index)
        elif verb in ("retried", "released", "cancelled"):
            running.discard(index)
            is_over = is_over and verb != "retried"
    assert is_over, f"the flow has no end: {events}"


async def compare(reality: Reality, model: Model, holders: Sequence[str], *, is_ordered: bool = True) -> None:
    """Raises AssertionError where server and model differ."""
    before = Counter({flow_id: len(events) for flow_id, events in reality.events.items()})
    found, indexes = await reality.read(holders)
    assert found.keys() == model.flows.keys(), "other flows are there"
    for flow_id, flow in model.flows.items():
        fields, ttl = found[flow_id]
        _compare_flow(flow, fields, ttl)
    for flow_id, expected in model.events.items():
        events = [(verb, index, attempt) for _, verb, index, attempt in reality.events[flow_id][before[flow_id] :]]
        # Of several stages of a dead process it does not matter which comes first.
        is_same = _settled(events) == _settled(expected) if is_ordered else Counter(events) == Counter(expected)
        assert is_same, f"events of {flow_id}: {events}, not {expected}"
    for flow_id, events in reality.events.items():
        assert len(events) == before[flow_id] or flow_id in model.events, f"{flow_id} has unexpected events"
    model.events.clear()
    paused, due, closing, live, failed, cancelled, *held = indexes
    # What was put aside comes back by and by: claims.py sees whether it does.
    due = {member for member in due if not member.startswith("o:")}
    assert due == {f"{what}:{flow_id}" for flow_id, what in model.waiting}, "what waits for a time"
    expected_closing = {member_of(*one) for one in model.closing}
    assert closing == expected_closing, f"what is being closed: {closing}, not {expected_closing}"
    roots = [flow for flow in model.flows.values() if flow.link is None]
    assert live == {flow.id for flow in roots if flow.state not in ENDED}, "live flows"
    assert failed == {flow.id for flow in roots if flow.state == "failed"}, "failed flows"
    assert cancelled == {flow.id for flow in roots if flow.state == "cancelled"}, "cancelled flows"
    assert paused == model.paused, "what is paused"
    for holder, members in zip(holders, held, strict=True):
        assert members == {f"{index}:{flow_id}" for flow_id, index in model.held[holder]}, f"what {holder} runs"


def _settled(events: Sequence[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Of several that are woken at once, by flows that end in one exchange, it does not matter which comes first."""
    groups = groupby(events, key=lambda event: event[0] == "resumed")
    return [event for is_woken, some in groups for event in (sorted(some) if is_woken else list(some))]


def member_of(flow_id: str, what: int) -> str:
    """How it is noted that something of a flow is being closed."""
    return f"/{flow_id}" if what == BENEATH else flow_id if what == ITSELF else f"*{what}:{flow_id}"


def _compare_flow(flow: Flow, fields: dict[str, bytes], ttl: int) -> None:
    head = head_decoder.decode(fields["m"])
    counts = (head.unfinished, head.active, head.away, head.failures)
    assert counts == (flow.unfinished, flow.active, flow.away, flow.failures), f"{flow.id}: its counts are {counts}"
    seen = (_STATES[head.status], head.seq, head.priority, head.reason, head.run)
    expected = (flow.state, flow.seq, flow.priority, flow.reason, flow.run)
    assert seen == expected, f"{flow.id}: its state, seq, priority, reason, run are {seen}, not {expected}"
    assert (flow.state in ENDED) == (head.ended_at > 0), f"{flow.id}: when it ended"
    # What a stage spawned stays as long as the flow at the root.
    assert (ttl > 0) == (flow.state in ENDED and flow.link is None), f"{flow.id}: its time to live is {ttl}"
    _compare_waits(flow, fields)
    for stage in flow.stages:
        data = fields.get(str(stage.index))
        record = record_decoder.decode(data) if data is not None else None
        if stage.state == "blocked" or stage.is_first:
            assert record is None, f"{flow.id}/{stage.index}: {record}, which is to be {stage.state}"
        else:
            assert record is not None, f"{flow.id}/{stage.index} has no record, and is to be {stage.state}"
            _compare_record(flow, stage, record, STATE_LETTER[record.state])
        assert fields.get(f"r{stage.index}") == stage.result, f"{flow.id}/{stage.index}: its result"
        assert (f"G{stage.index}" in fields) == stage.has_items, f"{flow.id}/{stage.index}: its items"
        if stage.has_items:
            _compare_items(flow, stage, fields, group_decoder.decode(fields[f"G{stage.index}"]))


def _compare_waits(flow: Flow, fields: dict[str, bytes]) -> None:
    assert ("^" in fields) == (flow.link is not None), f"{flow.id}: where it comes from"
    if flow.link is not None:
        link = link_decoder.decode(fields["^"])
        expected = (flow.link.stage, flow.link.run, flow.link.attempt)
        assert (link.stage, link.run, link.attempt) == expected, f"{flow.id}: whose it is"
    signals = {name[2:]: value for name, value in fields.items() if name.startswith("s:")}
    assert signals == flow.signals, f"{flow.id}: what was signalled"
    listeners = {name[2:]: msgspec.msgpack.decode(value) for name, value in fields.items() if name.startswith("w:")}
    assert listeners == flow.listeners, f"{flow.id}: who waits for signals"
    for stage in flow.stages:
        _compare_wait(flow, stage, fields)


def _compare_wait(flow: Flow, stage: Stage, fields: dict[str, bytes]) -> None:
    where = f"{flow.id}/{stage.index}"
    data = fields.get(f"z{stage.index}")
    assert (data is not None) == (stage.suspensions > 0), f"{where}: whether it has waited"
    if data is not None:
        known = remembered_decoder.decode(data)
        timers = {timer: ("seen", "over")[end] if end < 2 else "runs" for timer, end in known.ends.items()}
        expected = (stage.waits, stage.timers, stage.suspensions)
        assert (tuple(known.waits), timers, known.suspensions) == expected, f"{where}: what it waits for"


def _compare_items(flow: Flow, stage: Stage, fields: dict[str, bytes], group: Group) -> None:
    states = [item.state for item in stage.items]
    assert (group.count, group.done) == (len(states), states.count("completed")), f"{flow.id}/{stage.index}: items that are done"
    for item in stage.items:
        data = fields.get(str(item.index))
        record = record_decoder.decode(data) if data is not None else None
        if item.is_first or item.state == "blocked":
            shown = item_state(record, group, is_open=stage.state == "suspended")
            is_idle = stage.state != "suspended" or item in stage.spared
            assert shown == ("cancelled" if is_idle else "ready"), f"{flow.id}/{item.index}: {record}"
        else:
            assert record is not None, f"{flow.id}/{item.index} has no record, and is to be {item.state}"
            _compare_record(flow, item, record, STATE_LETTER[record.state])
            _compare_wait(flow, item, fields)
        if item.state == "completed":
            assert fields.get(f"r{item.index}") == item.result, f"{flow.id}/{item.index}: its result"


def _compare_record(flow: Flow, stage: Stage, record: Record, state: str) -> None:
    where = f"{flow.id}/{stage.index}"
    expected = (stage.state, stage.attempt, stage.crashes)
    assert (state, record.attempt, record.crashes) == expected, f"{where}: state, attempt, crashes"
    if stage.state == "running":
        assert (record.holder, record.fence) == (stage.holder, stage.token.fence if stage.token else 0), f"{where}: who runs it"
    if stage.state in ("ready", "scheduled", "running") and flow.state in OPEN:
        assert record.route == stage.route, f"{where}: its route"
