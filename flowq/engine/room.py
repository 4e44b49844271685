"""What a process has room for: stages at once, slots per queue, and one suspect at a time.

A suspect is a stage in whose process something crashed. It runs alone, so that the next crash names its culprit; its
routes end in "!".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from flowq.engine.slots import QueueSlots
from flowq.model.outcome import Claim
from flowq.store.store import Wants


class WorkerRoom:
    """Room for `concurrency` stages of the given routes.

    Args:
        routes: queue → the routes it serves there.
        suspects: queue → the routes whose suspects it runs, when nothing else runs here; {}: none. Not given: all of `routes`.
        concurrency: how many stages at once.
        slots: the host's slots of the queues in `limited`.
        limited: queues of which only so many stages may run on this host at once as they have slots.
    """

    def __init__(
        self,
        routes: Mapping[str, Iterable[str]],
        concurrency: int,
        *,
        suspects: Mapping[str, Iterable[str]] | None = None,
        slots: QueueSlots | None = None,
        limited: Iterable[str] = (),
    ) -> None:
        self._routes = {queue: tuple(sorted(names)) for queue, names in routes.items()}
        suspected = self._routes if suspects is None else suspects
        self._suspects = {queue: tuple(sorted(name + "!" for name in names)) for queue, names in suspected.items()}
        self._free = concurrency
        self._concurrency = concurrency
        self._takes_suspects = bool(self._suspects)
        self._slots = slots
        self._limited = frozenset(limited) if slots is not None else frozenset[str]()
        self._asks_for_suspects = False
        self._suspects_running = 0
        self._is_suspects_turn = False

    @property
    def routes(self) -> tuple[str, ...]:
        """All routes, for the worker's registration."""
        return tuple(name for names in self._routes.values() for name in names)

    @property
    def is_open(self) -> bool:
        """Whether a stage more could run."""
        return self._free > 0 and not self._asks_for_suspects and not self._suspects_running

    def take(self, most: int) -> tuple[int, list[Wants]]:
        """See `conversation.Room`."""
        if not self.is_open:
            return 0, []
        capacity, routes = min(self._free, most), self._routes
        is_alone = self._free == self._concurrency
        if is_alone and self._takes_suspects:
            if self._concurrency == 1:
                queues = [*routes, *(queue for queue in self._suspects if queue not in routes)]
                routes = {queue: routes.get(queue, ()) + self._suspects.get(queue, ()) for queue in queues}
            elif self._is_suspects_turn:
                routes, capacity, self._asks_for_suspects = self._suspects, 1, True
        wants = [want for queue, names in routes.items() if (want := self._want(queue, names, capacity))]
        if not wants:
            self._asks_for_suspects = False
            return 0, []
        self._free -= capacity
        return capacity, wants

    def give_back(self, taken: int, wants: list[Wants], claims: list[Claim]) -> bool:
        """See `conversation.Room`. A process for many stages asks for suspects whenever it found nothing else to do."""
        self._free += taken - len(claims)
        used = Counter(claim.queue for claim in claims)
        for want in wants:
            if want.capacity >= 0:
                queue = want.routes[0].split(":", 1)[0]
                assert self._slots is not None
                self._slots.give_back(queue, want.capacity - used[queue])
        if taken == 0:
            return False
        asked_for_suspects = self._concurrency > 1 and all(route.endswith("!") for want in wants for route in want.routes)
        if asked_for_suspects:
            self._asks_for_suspects = False
        if self._concurrency > 1:
            self._suspects_running += sum(claim.is_suspect for claim in claims)
        can_have_a_turn = self._takes_suspects and self._concurrency > 1 and self._free == self._concurrency
        self._is_suspects_turn = can_have_a_turn and not claims and not asked_for_suspects
        return self._is_suspects_turn

    def ended(self, claim: Claim) -> None:
        """A stage has ended: its room is free again."""
        self._free += 1
        if claim.is_suspect and self._suspects_running:
            self._suspects_running -= 1
        if self._slots is not None and claim.queue in self._limited:
            self._slots.give_back(claim.queue, 1)

    def _want(self, queue: str, names: tuple[str, ...], capacity: int) -> Wants | None:
        if self._slots is None or queue not in self._limited:
            return Wants(-1, names)
        got = self._slots.take(queue, capacity)
        return Wants(got, names) if got else None
