"""How much waits in lanes. Of very many entries a part is read, and the rest is taken to be like it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from flowq.store.connection import Connection
from flowq.store.damage import read_in_pages
from flowq.store.lane_names import Lane
from flowq.store.ready import Entry, Waiting, judged

# So many entries are read at once, and of one lane.
READ_MAX = 5_000
_OF_LANE_MAX = 1_000


class Sample(NamedTuple):
    """A lane, and what was read of it.

    Attributes:
        lane: which.
        entries: how many it has, and those that it stands for.
        read: how many were read.
        ready: what is ready of them.
    """

    lane: Lane
    entries: float
    read: int
    ready: list[Waiting]

    @property
    def stages(self) -> float:
        """How many stages are ready by all entries, if they are like those that were read."""
        return sum(waiting.stages for waiting in self.ready) * self.entries / max(1, self.read)


async def sampled(connection: Connection, lanes: Iterable[Lane], pipelines: Collection[str]) -> list[Sample]:
    """What is ready in these lanes while these pipelines are paused. Empty ones are left out."""
    queues: Counter[str] = Counter()

    def turn(lane: Lane) -> int:
        queues[lane.queue] += 1
        return queues[lane.queue]

    # The first of each queue, then the second of each: where there are too many lanes to read all, some of each queue are read.
    lanes = sorted(lanes, key=turn)
    lengths = [length or 0 for length in await read_in_pages(connection, [("LLEN", lane.key) for lane in lanes])]
    counted = [(lane, length) for lane, length in zip(lanes, lengths, strict=True) if length]
    shares = _shares([length for _, length in counted])
    asked = [
        (position, question)
        for position, ((lane, length), share) in enumerate(zip(counted, shares, strict=True))
        for question in _ends(lane, length, share)
    ]
    texts: list[list[bytes]] = [[] for _ in counted]
    answers = await read_in_pages(connection, [question for _, question in asked])
    for (position, _), page in zip(asked, answers, strict=True):
        texts[position] += page or ()
    entries = [entry for (lane, _), page in zip(counted, texts, strict=True) for text in page if (entry := Entry.of(lane, text))]
    ready: dict[Lane, list[Waiting]] = {lane: [] for lane, _ in counted}
    told: dict[tuple[str, str], set[int]] = {}
    found = zip(entries, await judged(connection, entries, pipelines), strict=True)
    # Of a flow that was cancelled and is retried an earlier entry stands there, too: who claims takes one of them.
    for entry, waiting in sorted(found, key=lambda one: one[0].last > one[0].first):
        of_flow = told.setdefault((entry.lane.tag, entry.flow_id), set())
        if waiting is None or entry.first in of_flow:
            continue
        again = sum(entry.first <= stage <= entry.last for stage in of_flow) if entry.last > entry.first else 0
        of_flow.add(entry.first)
        ready[entry.lane].append(waiting._replace(stages=max(0, waiting.stages - again)))
    return [
        # One that has become shorter meanwhile was read as a whole.
        Sample(lane, (length if len(page) >= share else len(page)) * lane.stands_for, len(page), ready[lane])
        for (lane, length), share, page in zip(counted, shares, texts, strict=True)
    ]


def _ends(lane: Lane, length: int, share: int) -> list[tuple[Any, ...]]:
    """Asks for so many entries of a lane, from both ends if not for all: in front of others there may be many cancelled ones."""
    back = share // 2 if share < length else 0
    ends = (0, share - back - 1), (length - back, length - 1)
    return [("LRANGE", lane.key, first, last) for first, last in ends if last >= first]


def _shares(lengths: Sequence[int]) -> list[int]:
    """How many entries of each lane are read: of the first the same, and what short ones leave is for the others."""
    shares, first, left = [0] * len(lengths), range(min(len(lengths), READ_MAX)), READ_MAX
    for taken, position in enumerate(sorted(first, key=lengths.__getitem__)):
        shares[position] = min(lengths[position], _OF_LANE_MAX, left // (len(first) - taken))
        left -= shares[position]
    return shares


def ready_in(samples: Collection[Sample]) -> tuple[int, bool]:
    """How many stages are ready in these lanes, and whether that is an estimate. Unread lanes are taken to be like the others.

    Where not all was read it is one at least: else no worker might be started, and nobody else clears away what was cancelled.
    """
    every, of_read = sum(sample.entries for sample in samples), sum(sample.entries for sample in samples if sample.read)
    stages = sum(sample.stages for sample in samples) * every / of_read if of_read else every
    is_partial = any(sample.read < sample.entries for sample in samples)
    is_estimate = is_partial or any(waiting.is_estimate for sample in samples for waiting in sample.ready)
    return max(round(stages), int(is_partial)), is_estimate
