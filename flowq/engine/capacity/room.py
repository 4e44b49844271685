"""What a process has room for: stages at once, slots per queue, and one suspect at a time.

A suspect is a stage in whose process something crashed. It runs alone, so that the next crash names its culprit; its
routes end in "!".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from flowq.engine.capacity.host_room import HostRoom
from flowq.engine.capacity.slots import QueueSlots
from flowq.model.outcome import Claim
from flowq.store.store import Wants


class WorkerRoom:
    """Room for `concurrency` stages of the given routes.

    Args:
        routes: queue → the routes it serves there.
        suspects: queue → the routes whose suspects it runs, when nothing else runs here nor is to be had; {}: none. Not given:
            all of `routes`.
        concurrency: how many stages at once.
        slots: the host's slots of the queues in `limited`.
        limited: queues of which only so many stages may run on this host at once as they have slots.
        host: room of the host's own that some stages need.
    """

    def __init__(
        self,
        routes: Mapping[str, Iterable[str]],
        concurrency: int,
        *,
        suspects: Mapping[str, Iterable[str]] | None = None,
        slots: QueueSlots | None = None,
        limited: Iterable[str] = (),
        host: HostRoom | None = None,
    ) -> None:
        self._routes = {queue: tuple(sorted(names)) for queue, names in routes.items()}
        suspected = self._routes if suspects is None else suspects
        self._suspects = {queue: tuple(sorted(name + "!" for name in names)) for queue, names in suspected.items()}
        self._free = concurrency
        self._concurrency = concurrency
        if concurrency == 1:  # it runs everything alone: suspects are stages like others
            queues = [*self._routes, *(queue for queue in self._suspects if queue not in self._routes)]
            self._routes = {queue: self._routes.get(queue, ()) + self._suspects.get(queue, ()) for queue in queues}
            self._suspects = {}
        self._slots = slots
        self._host = host
        self._turns = Counter[str]()  # by partition: they ask in turns too, and the two must not beat together
        # What is reserved of the host's own room for a question that is under way, by the identity of its part.
        self._reserved: dict[int, dict[str, int]] = {}
        self._limited = frozenset(limited) if slots is not None else frozenset[str]()
        self._asks_for_suspects = False
        self._suspects_running = 0
        # Partitions whose suspects everything else here makes way for, in the order of their turns.
        self._way: list[str] = []
        # Partitions that asked while there was no room, the first first: each has its turn before another has two.
        self._waiting: list[str] = []
        self._on_open: list[Callable[[], None]] = []

    @property
    def routes(self) -> tuple[str, ...]:
        """All routes but those of suspects, for the worker's registration."""
        return tuple(name for names in self._routes.values() for name in names if not name.endswith("!"))

    @property
    def is_open(self) -> bool:
        """Whether a stage more could run."""
        is_held_free = bool(self._way) and self._free < self._concurrency
        return self._free > 0 and not self._asks_for_suspects and not self._suspects_running and not is_held_free

    @property
    def suspect_routes(self) -> tuple[str, ...]:
        """The routes whose suspects wait until nothing else runs here."""
        return tuple(name for names in self._suspects.values() for name in names)

    def make_way(self, partitions: Collection[str]) -> None:
        """Takes nothing new until all has ended that runs, and then a suspect of each of these partitions, one after the other:
        else steady work would let them wait for ever. No partition: nothing is made way for any more."""
        kept = [partition for partition in self._way if partition in partitions]
        self._way = kept + [partition for partition in partitions if partition not in kept]
        self._tell()

    def admits(self, partition: str = "") -> bool:
        """See `listener.Room`."""
        turns = self._way or self._waiting
        if self.is_open and turns[:1] in ([], [partition]):
            return True
        if partition not in self._waiting:
            self._waiting.append(partition)
            self._tell()
        return False

    def leave(self, partition: str = "") -> None:
        """See `listener.Room`."""
        if partition in self._waiting:
            self._waiting.remove(partition)
            self._tell()

    def on_open(self, callback: Callable[[], None]) -> None:
        """Calls back whenever there is room again for a partition that asked in vain."""
        self._on_open.append(callback)

    def take(self, most: int, partition: str = "") -> tuple[int, list[Wants]]:
        """See `listener.Room`."""
        if not self.admits(partition):
            return 0, []
        if partition in self._waiting:
            self._waiting.remove(partition)
        is_its_way, self._way = bool(self._way), self._way[1:]
        capacity = min(self._free, most)
        # Where nothing runs, a suspect may: one, and nothing beside it.
        suspects = self._suspects if self._free == self._concurrency else {}
        routes = {} if is_its_way else self._routes
        queues = [*routes, *(queue for queue in suspects if queue not in routes)]
        offers = ((queue, routes.get(queue, ()), suspects.get(queue, ())) for queue in queues)
        if self._host is not None:
            self._turns[partition] += 1
            offers = _apart(offers, self._host, self._turns[partition])
        wants = [want for offer in offers if (want := self._want(*offer, capacity))]
        if not wants:
            self._tell()
            return 0, []
        self._asks_for_suspects = any(want.suspects for want in wants)
        self._free -= capacity
        return capacity, wants

    def give_back(self, taken: int, wants: list[Wants], claims: list[Claim]) -> None:
        """See `listener.Room`."""
        self._free += taken - len(claims)
        for want in wants:
            if want.capacity >= 0:
                self._give_back_unused(want, claims)
        if any(want.suspects for want in wants):
            self._asks_for_suspects = False
        if self._concurrency > 1:
            self._suspects_running += sum(claim.is_suspect for claim in claims)
        self._tell()

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its room is free again."""
        self._free += 1
        if claim.is_suspect and self._suspects_running:
            self._suspects_running -= 1
        if self._slots is not None and claim.queue in self._limited:
            self._slots.give_back(claim.queue, 1)
        if self._host is not None:
            self._host.ended(claim.route)
        self._tell()

    def _tell(self) -> None:
        if self._waiting and self.is_open:
            for callback in self._on_open:
                callback()

    def _want(self, queue: str, routes: tuple[str, ...], suspects: tuple[str, ...], capacity: int) -> Wants | None:
        needs_room = self._host is not None and bool(self._host.needs_of((routes or suspects)[0]))
        is_limited = self._slots is not None and queue in self._limited
        if not needs_room and not is_limited:
            return Wants(-1, routes, suspects)
        got = self._slots.take(queue, capacity) if self._slots is not None and is_limited else capacity
        reserved: dict[str, int] = {}
        if got and self._host is not None and needs_room:
            fits, fitting, reserved = self._host.take((*routes, *suspects), got)
            if self._slots is not None and is_limited:
                self._slots.give_back(queue, got - fits)
            got, routes = fits, tuple(route for route in routes if route in fitting)
            suspects = tuple(route for route in suspects if route in fitting)
        if not got:
            return None
        want = Wants(got, routes, suspects)
        self._reserved[id(want)] = reserved
        return want

    def _give_back_unused(self, want: Wants, claims: list[Claim]) -> None:
        reserved = self._reserved.pop(id(want), {})
        queue = (want.routes or want.suspects)[0].split(":", 1)[0]
        used = [claim for claim in claims if claim.route in want.routes or claim.route in want.suspects]
        if self._slots is not None and queue in self._limited:
            self._slots.give_back(queue, want.capacity - len(used))
        if self._host is not None and reserved:
            self._host.give_back(reserved, used)


_Offer = tuple[str, tuple[str, ...], tuple[str, ...]]


def _apart(offers: Iterable[_Offer], host: HostRoom, turn: int) -> Iterator[_Offer]:
    """Stages that need room of the host by themselves; not always the same ones first, for they share slots and room."""
    apart: list[_Offer] = []
    for queue, routes, suspects in offers:
        for needs in (False, True):
            chosen = (tuple(one for one in routes if bool(host.needs_of(one)) == needs),
                      tuple(one for one in suspects if bool(host.needs_of(one)) == needs))  # fmt: skip
            if any(chosen):
                apart.append((queue, *chosen))
    for place in range(len(apart)):
        yield apart[(turn + place) % len(apart)]
