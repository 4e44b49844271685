"""What a process has room for: stages at once, slots per queue, and one suspect at a time.

A suspect is a stage in whose process something crashed. It runs alone, so that the next crash names its culprit; its
routes end in "!".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from flowq.engine.capacity.host_room import HostRoom
from flowq.engine.capacity.slots import QueueSlots
from flowq.engine.capacity.taken import Taken
from flowq.model.outcome import Claim
from flowq.store.wants import Wants, only, routes_of, together

# See `WorkerRoom.patience`. There are next to no suspects, and other processes ask for what else there is and for what is due.
_PATIENCE_FOR_SUSPECTS = 4


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
        # Partitions whose calls under way have slots or room of the host reserved: others wait, else they would ask for half.
        self._reserving: list[str] = []
        self._limited = frozenset(limited) if slots is not None else frozenset[str]()
        self._asks_for_suspects = False
        self._suspects_running = 0
        # Partitions whose suspects everything else here makes way for, in the order of their turns.
        self._way: list[str] = []
        # Partitions that asked while there was no room, the first first: each has its turn before another has two.
        self._waiting: list[str] = []
        # Partitions that could not ask for all, or got no more, because slots or room of the host were used up: when some is
        # free again it is their turn, else who has just used it would take it again, for as long as it has work.
        self._lacking: list[str] = []
        self._freed = 0  # how often some was
        self._served: dict[str, int] = {}  # when each got some last: who has waited for longest is first
        self._on_turn: list[Callable[[str], None]] = []
        self.is_closed = False  # nothing is claimed any more

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
    def is_idle(self) -> bool:
        """Whether nothing runs here nor makes way: a suspect is claimed as any other stage."""
        return self._free == self._concurrency and not self._way

    @property
    def patience(self) -> int:
        """See `listener.Room`."""
        return _PATIENCE_FOR_SUSPECTS if self.is_idle and not self.routes else 1

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
        is_reserved = any(other != partition for other in self._reserving)
        if self.is_open and not is_reserved and turns[:1] in ([], [partition]):
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

    def on_turn(self, callback: Callable[[str], None]) -> None:
        """Calls back with each partition that has asked in vain, whenever there is room again."""
        self._on_turn.append(callback)

    def take(self, most: int, partition: str = "") -> Taken:
        """See `listener.Room`."""
        if not self.admits(partition):
            return Taken(is_partial=True)
        if partition in self._waiting:
            self._waiting.remove(partition)
        is_its_way, self._way = bool(self._way), self._way[1:]
        # Where nothing runs, a suspect may: one, and nothing beside it.
        suspects = self._suspects if self._free == self._concurrency else {}
        taken = self._reserve(min(self._free, most), {} if is_its_way else self._routes, suspects)
        taken.partition, taken.freed, taken.is_partial = partition, self._freed, is_its_way or bool(self._reserving)
        if taken.has_reserved:
            self._reserving.append(partition)
        if taken.wants:
            self._asks_for_suspects = any(want.suspects for want in taken.wants)
            self._free -= taken.capacity
        else:
            taken.capacity = 0
            self._tell()
        return taken

    def give_back(self, taken: Taken, claims: list[Claim]) -> bool:
        """See `listener.Room`."""
        self._free += taken.capacity - len(claims)
        if taken.has_reserved:
            self._reserving.remove(taken.partition)
        used = Counter(claim.queue for claim in claims)
        for queue, count in taken.slots.items():
            self._give_slots_back(queue, count - used[queue])
        has_more = taken.is_partial or 0 < taken.fits == sum(self._needs_room(claim.route) for claim in claims)
        lacks = taken.lacks_room or any(count == used[queue] for queue, count in taken.slots.items())
        if any(used[queue] for queue in taken.slots) or any(self._needs_room(claim.route) for claim in claims):
            self._served[taken.partition] = max(self._served.values(), default=0) + 1
        if lacks and taken.freed != self._freed:
            has_more, lacks = True, False
        if lacks != (taken.partition in self._lacking):
            (self._lacking.append if lacks else self._lacking.remove)(taken.partition)
        if self._host is not None:
            self._host.give_back(taken.room, claims)
        if any(want.suspects for want in taken.wants):
            self._asks_for_suspects = False
        if self._concurrency > 1:
            self._suspects_running += sum(claim.is_suspect for claim in claims)
        self._tell()
        return has_more

    def ended(self, claim: Claim, *, is_stray: bool = False) -> None:
        """A stage has ended: its room is free again. Of a stray only its place in this process: it leaves the host later."""
        self._free += 1
        if self._suspects_running and claim.is_suspect:
            self._suspects_running -= 1
        if self.is_shared and not is_stray:
            self.leave_host(claim)
            self.host_was_left(claim)
        elif self._waiting:
            self._tell()

    def leave_host(self, claim: Claim) -> None:
        """What a stage used of the host is free again. May be called from any thread, also after the end of the loop."""
        if self._is_limited(claim):
            self._give_slots_back(claim.queue, 1)
        if self._host is not None:
            self._host.ended(claim.route)

    def host_was_left(self, claim: Claim) -> None:
        """`leave_host` was called for this stage: others here have their turn."""
        if self._is_limited(claim) or self._needs_room(claim.route):
            self._pass_on()
        if self._waiting:
            self._tell()

    @property
    def is_shared(self) -> bool:
        """Whether others of this host may have what is lacked here."""
        return self._slots is not None or self._host is not None

    async def run_once(self) -> None:
        """Looks whether others of this host have given back what was lacked here."""
        is_open = self.is_open and not self.is_closed
        found = [shared.look(is_open=is_open) for shared in (self._slots, self._host) if shared is not None]
        if any(found) and self._lacking:
            self._pass_on()
            self._tell()

    def _is_limited(self, claim: Claim) -> bool:
        return bool(self._limited) and claim.queue in self._limited

    def _pass_on(self) -> None:
        lacking = sorted(self._lacking, key=lambda partition: self._served.get(partition, 0))
        self._waiting += [partition for partition in lacking if partition not in self._waiting]
        self._lacking = []
        self._freed += 1

    def _tell(self) -> None:
        if self._waiting and self.is_open:
            for partition in (*self._way, *self._waiting):
                for callback in self._on_turn:
                    callback(partition)

    def _reserve(self, capacity: int, routes: Mapping[str, tuple[str, ...]], suspects: Mapping[str, tuple[str, ...]]) -> Taken:
        """Reserves slots of each queue, and the host's room for whichever stages it will be of those that need some."""
        queues = dict.fromkeys((*routes, *suspects))
        slots: dict[str, int] = {}
        if self._slots is not None:
            slots = {queue: self._slots.take(queue, capacity) for queue in queues if queue in self._limited}
            self._slots.lack([queue for queue, count in slots.items() if not count])
        wants = [Wants(slots.get(queue, -1), routes.get(queue, ()), suspects.get(queue, ())) for queue in queues]
        taken = Taken(capacity, [want for want in wants if want.capacity], slots=slots)
        if self._host is not None:
            needy = only(taken.wants, self._needs_room)
            names = [route for route in routes_of(needy) if self._host.could_hold(route)]
            taken.fits, fitting, taken.room = self._host.take(names, capacity)
            taken.lacks_room = len(fitting) < len(names)
            taken.wants = only(taken.wants, lambda route: route in fitting or not self._needs_room(route))
            if taken.fits:
                taken.wants.append(together(only(needy, lambda route: route in fitting), taken.fits))
        return taken

    def _needs_room(self, route: str) -> bool:
        return self._host is not None and bool(self._host.needs_of(route))

    def _give_slots_back(self, queue: str, count: int) -> None:
        if self._slots is not None:
            self._slots.give_back(queue, count)
