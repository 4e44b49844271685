"""One server of many, and the workers that talk to it, played from what its calls cost: how busy it is, and how many are enough.

All other servers have the same to do. Stages end at random moments; what ends while a worker's two calls are under way goes with
the next one, and who has nothing to say asks once a second. Networks and failures are left out.
"""

from __future__ import annotations

import heapq
import math
import random
import statistics
from typing import NamedTuple

from benchmarks.figures import percentile
from flowq.engine.duties.lease import LEASE_MS, RENEWALS_PER_LEASE
from flowq.engine.exchange.conversation import LINES

STAGES = 4
PARTITIONS = 4  # of each server, as flowq spreads them over a cluster
ADDED_AT_ONCE = 25
# What a server should be busy at most: above it those who wait grow many.
_BUSY_MAX = 0.6
# Stages a second of a server that only answers questions.
_NEXT_TO_NOTHING = 1e-3
_ASKED_AFTER_SECONDS = 1.0
_RENEWALS_A_SECOND = RENEWALS_PER_LEASE / (LEASE_MS / 1000)


class Costs(NamedTuple):
    """What was measured.

    Attributes:
        question_us: processor time of the server's main thread in a call that says nothing and finds nothing.
        call_us: in a call that reports and claims, beside its stages.
        stage_us: for each stage in it.
        add_us: for each flow that is added, with others.
        renew_us: in a call that renews a worker's lease.
        waiting_bytes, completed_bytes: of a chain of four.
    """

    question_us: float
    call_us: float
    stage_us: float
    add_us: float
    renew_us: float
    waiting_bytes: float
    completed_bytes: float


class Load(NamedTuple):
    """How one server fares.

    Attributes:
        busy: the share of time.
        asked: the share of time that questions take which say nothing, and renewals of leases.
        batch: stages in a call that carries some, on average.
        p99_ms: how long the end of a stage takes to be known, at p99.
    """

    busy: float
    asked: float
    batch: float
    p99_ms: float


class Fleet(NamedTuple):
    """What a rate takes; or where no number of servers is enough, the load of each without a single stage."""

    servers: int
    workers: int
    load: Load

    @property
    def is_enough(self) -> bool:
        """Whether the servers bear it."""
        return self.load.busy <= _BUSY_MAX


def sized(costs: Costs, rate: float, seconds: float, slots: int, dice: random.Random, together: float) -> Fleet:
    """The fewest servers that are busy for no more than three fifths of the time, in namespaces of so many `together`; as many
    workers as the stages need, each of which serves one namespace."""
    workers = max(1, math.ceil(rate * seconds / (0.8 * slots)))
    servers = max(1, math.floor(rate * costs.stage_us / 1e6 / _BUSY_MAX))
    if math.isinf(together) and (load := played(costs, _NEXT_TO_NOTHING, workers, dice)).busy > _BUSY_MAX:
        return Fleet(servers, workers, load)
    while True:
        load = played(costs, rate / servers, math.ceil(workers * min(1.0, together / servers)), dice)
        if (fleet := Fleet(servers, workers, load)).is_enough:
            return fleet
        servers = math.ceil(servers * max(1.02, load.busy / _BUSY_MAX))


def played(costs: Costs, rate: float, workers: int, dice: random.Random, seconds: float = 2.0) -> Load:
    """One server, which all workers talk to, each with all its partitions.

    Args:
        costs: what calls cost it.
        rate: stages that end each second, of its flows.
        workers: how many processes.
        dice: when stages end, and whose.
        seconds: how long is played, after as long to get going.
    """
    return _Play(costs, rate, workers * PARTITIONS, dice, seconds).load()


class _Play:
    """What happens to one server: moments at random, calls, answers, questions of who has been silent."""

    def __init__(self, costs: Costs, rate: float, talks: int, dice: random.Random, seconds: float) -> None:
        self._costs, self._dice, self._seconds = costs, dice, seconds
        self._under_way, self._waiting = [0] * talks, [list[float]() for _ in range(talks)]
        self._silent_since = [-_ASKED_AFTER_SECONDS] * talks
        # What comes at random moments: how often a second, and what it costs a server that answers it at once.
        self._random_ones = {
            "end": (rate, 0.0),
            "add": (rate / STAGES / ADDED_AT_ONCE, costs.add_us * ADDED_AT_ONCE / 1e6),
            "renew": (talks * _RENEWALS_A_SECOND, costs.renew_us / 1e6),
        }
        # (moment, what, whose): one of these; an answer is there; or somebody silent asks.
        self._events = [(dice.random(), "ask", talk) for talk in range(talks)]
        self._events += [(dice.expovariate(often), what, -1) for what, (often, _) in self._random_ones.items()]
        heapq.heapify(self._events)
        self._free_at = self._busy = self._asked = 0.0
        self._took, self._sizes = list[float](), list[int]()

    def load(self) -> Load:
        """Plays to the end; how the server fared in the second half."""
        while (event := heapq.heappop(self._events))[0] < 2 * self._seconds:
            now, what, talk = event
            if what in self._random_ones:
                talk = self._at_random(now, what)
            elif what == "answer":
                self._under_way[talk] -= 1
                self._silent_since[talk] = now
                self._then(now + _ASKED_AFTER_SECONDS, "ask", talk)
            elif not self._under_way[talk] and now >= self._silent_since[talk] + _ASKED_AFTER_SECONDS:
                self._call(now, talk)
            if talk >= 0 and what != "ask" and self._waiting[talk] and self._under_way[talk] < LINES:
                self._call(now, talk)
        p99_ms = 1e3 * percentile(self._took or [0.0], 0.99)
        return Load(self._busy / self._seconds, self._asked / self._seconds, statistics.fmean(self._sizes or [0]), p99_ms)

    def _then(self, moment: float, what: str, talk: int) -> None:
        heapq.heappush(self._events, (moment, what, talk))

    def _at_random(self, now: float, what: str) -> int:
        """Lets one of them happen; whose stage has ended, if one has, else -1."""
        often, cost = self._random_ones[what]
        self._then(now + self._dice.expovariate(often), what, -1)
        self._keep_busy(now, cost, cost if what == "renew" else 0.0)
        if what != "end":
            return -1
        talk = self._dice.randrange(len(self._waiting))
        self._waiting[talk].append(now)
        return talk

    def _call(self, now: float, talk: int) -> None:
        costs = self._costs
        carried, self._waiting[talk] = self._waiting[talk], []
        cost = (costs.call_us + costs.stage_us * len(carried) if carried else costs.question_us) / 1e6
        self._keep_busy(now, cost, 0.0 if carried else cost)
        self._under_way[talk] += 1
        self._then(self._free_at, "answer", talk)
        if now >= self._seconds and carried:
            self._took.extend(self._free_at - since for since in carried)
            self._sizes.append(len(carried))

    def _keep_busy(self, now: float, cost: float, asked: float) -> None:
        self._free_at = max(now, self._free_at) + cost
        if now >= self._seconds:
            self._busy, self._asked = self._busy + cost, self._asked + asked
