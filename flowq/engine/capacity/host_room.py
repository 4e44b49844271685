"""The worker host's own room: `has={"gpu": 1, "vram": 40}`, shared by all worker processes of the host.

A stage that needs some is claimed only where it fits: what it needs is reserved first, and asked for then.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from flowq.engine.capacity.slots import QueueSlots
from flowq.model.outcome import Claim
from flowq.pipeline.stage import AnyStage

Needs = tuple[tuple[str, int], ...]


class HostRoom:
    """Reserves room for stages.

    Args:
        slots: the host's units of each resource; None: it has none.
        needs: stage, with its version → what it needs; those that need nothing are left out.
    """

    def __init__(self, slots: QueueSlots | None, needs: Mapping[str, Needs]) -> None:
        self._slots = slots
        self._needs = dict(needs)
        self._lacking: set[str] = set()

    def needs_of(self, route: str) -> Needs:
        """What the stage of a route needs."""
        return self._needs.get(route.partition(":")[2].rstrip("!"), ())

    def could_hold(self, route: str) -> bool:
        """Whether a stage of a route fits if nothing else runs on this host."""
        return all(self._slots is not None and amount <= self._slots.count(name) for name, amount in self.needs_of(route))

    def take(self, routes: Iterable[str], most: int) -> tuple[int, tuple[str, ...], dict[str, int]]:
        """Reserves what up to `most` stages of these routes take, whichever of them they will be.

        Returns for how many, the routes of which one fits at all, and what is reserved.
        """
        fitting: list[str] = []
        reserved: dict[str, int] = {}
        self._lacking.clear()
        for route in routes:
            if self._reserve(reserved, dict(self.needs_of(route))):
                fitting.append(route)
        if self._slots is not None:  # others leave nothing to who has some: what needs more waits until so much is free at once
            self._slots.lack(self._lacking.difference(reserved))
        count, once = min(1, len(fitting)), dict(reserved)
        while fitting and count < most and self._reserve(reserved, {name: have + once[name] for name, have in reserved.items()}):
            count += 1
        return count, tuple(fitting), reserved

    def give_back(self, reserved: Mapping[str, int], claims: Iterable[Claim]) -> None:
        """Gives back what was reserved, but for what these stages take."""
        used = Counter[str]()
        for claim in claims:
            used.update(dict(self.needs_of(claim.route)))
        for name, amount in reserved.items():
            self._give_back(name, amount - used[name])

    def ended(self, route: str) -> None:
        """Gives back what a stage of this route took."""
        for name, amount in self.needs_of(route):
            self._give_back(name, amount)

    def _reserve(self, reserved: dict[str, int], wanted: Mapping[str, int]) -> bool:
        """Reserves so much more that there is as much as wanted of each; all or nothing."""
        more: dict[str, int] = {}
        for name, amount in wanted.items():
            lack = max(0, amount - reserved.get(name, 0))
            more[name] = self._slots.take(name, lack) if self._slots is not None and self._slots.count(name) else 0
            if more[name] < lack:
                self._lacking.add(name)
                for other, got in more.items():
                    self._give_back(other, got)
                return False
        for name, amount in more.items():
            reserved[name] = reserved.get(name, 0) + amount
        return True

    def _give_back(self, name: str, count: int) -> None:
        if self._slots is not None and count:
            self._slots.give_back(name, count)

    def look(self, *, is_open: bool) -> bool:
        """See `QueueSlots.look`."""
        return self._slots is not None and self._slots.look(is_open=is_open)

    def retire(self) -> None:
        """See `QueueSlots.retire`."""
        if self._slots is not None:
            self._slots.retire()


def host_room(namespace: str, has: Mapping[str, int], stages: Iterable[AnyStage]) -> HostRoom | None:
    """The room of this host; None if no stage asks for any."""
    needs = {label: tuple(wanted.items()) for label, wanted in needs_of(stages).items()}
    if not needs:
        return None
    return HostRoom(QueueSlots(slots_directory(f"{namespace}-room"), has) if has else None, needs)


def needs_of(stages: Iterable[AnyStage]) -> dict[str, dict[str, int]]:
    """Stage, with its version → what it needs; those that need nothing are left out."""
    return {stage.label: dict(stage.options.needs) for stage in stages if stage.options.needs}


def this_host() -> str:
    """The same for all processes that share this room, and for no others."""
    return f"{socket.gethostname()}:{slots_directory('room')}"


def slots_directory(name: str) -> Path:
    """Where the processes of this host and user share what is theirs."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and os.access(runtime, os.W_OK) else Path("/tmp")
    return base / f"flowq-{os.getuid()}-{name}"
