"""What stages of several queues share of their host is asked for together, and by one partition after the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from flowq.engine.capacity.host_room import HostRoom
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import QueueSlots
from flowq.engine.capacity.taken import Taken
from flowq.model.outcome import Claim, Token
from flowq.store.wants import Wants

NOT_NOW = Taken(is_partial=True)
QUEUES = {"one": ["one:plain", "one:card"], "two": ["two:card"], "three": ["three:memory"]}
NEEDS = {"card": (("gpu", 1),), "memory": (("vram", 10),)}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "host"


def host(files: Path, **has: int) -> HostRoom:
    return HostRoom(QueueSlots(files, has), NEEDS)


def room_of(host: HostRoom, queues: Mapping[str, list[str]] = QUEUES, **options: QueueSlots | list[str]) -> WorkerRoom:
    return WorkerRoom(queues, 10, suspects={}, host=host, **options)  # pyright: ignore[reportArgumentType]


def claim(route: str) -> Claim:
    return Claim("f1", 0, "", Token(1, "n"), 1, 0, 0, 0, b"", {}, route)


def test_one_call_asks_for_all_that_need_room_under_one_bound(files: Path) -> None:
    room = room_of(host(files, gpu=2, vram=5))
    assert room.take(50).wants == [
        Wants(-1, ("one:card", "one:plain")), Wants(-1, ("two:card",)), Wants(2, ("one:card", "two:card")),
    ]  # fmt: skip


def test_those_that_need_room_share_the_slots_of_their_queue_with_those_that_need_none(files: Path, tmp_path: Path) -> None:
    slots = QueueSlots(tmp_path / "slots", {"one": 1})
    room = room_of(host(files, gpu=1), {"one": QUEUES["one"]}, slots=slots, limited=["one"])
    taken = room.take(50)
    assert taken.wants == [Wants(1, ("one:card", "one:plain")), Wants(1, ("one:card",))]
    room.give_back(taken, [claim("one:card")])
    assert room.take(50).capacity == 0
    slots.close()


def test_while_a_call_has_room_reserved_other_partitions_wait_for_their_turn(files: Path) -> None:
    room = room_of(host(files, gpu=1))
    told: list[str] = []
    room.on_turn(told.append)
    taken = room.take(50, "A")
    assert room.take(50, "B") == NOT_NOW
    assert room.take(50, "C") == NOT_NOW
    assert not room.give_back(taken, []), "it asked for all there is"
    assert set(told) == {"B", "C"}
    assert room.take(50, "C") == NOT_NOW, "it is B's turn"
    assert Wants(1, ("one:card", "two:card")) in room.take(50, "B").wants


def test_a_second_call_of_a_partition_may_ask_for_the_rest_but_not_think_that_this_was_all(files: Path) -> None:
    room = room_of(host(files, gpu=1))
    first, second = room.take(5, "A"), room.take(5, "A")
    assert second.wants == [Wants(-1, ("one:plain",))]
    assert room.give_back(second, [])
    assert not room.give_back(first, [])


def test_who_could_not_ask_for_what_was_in_use_is_next_when_it_is_free(files: Path) -> None:
    """Else who has used it would take it again, for as long as it has work."""
    room = room_of(host(files, gpu=1))
    running = claim("one:card")
    assert room.give_back(room.take(50, "A"), [running]), "its bound was used up"
    told: list[str] = []
    room.on_turn(told.append)
    taken = room.take(5, "B")
    assert taken.wants == [Wants(-1, ("one:plain",))]
    assert not room.give_back(taken, [])
    room.ended(running)
    assert told == ["B"]
    assert room.take(50, "A") == NOT_NOW
    assert Wants(1, ("one:card", "two:card")) in room.take(50, "B").wants


def test_who_got_the_last_slots_is_next_when_one_is_free(tmp_path: Path) -> None:
    slots = QueueSlots(tmp_path / "slots", {"one": 2})
    room = WorkerRoom({"one": ["one:plain"]}, 10, suspects={}, slots=slots, limited=["one"])
    one, other = claim("one:plain"), claim("one:plain")
    room.give_back(room.take(50, "A"), [one])
    room.give_back(room.take(50, "B"), [other])
    room.ended(one)
    assert room.take(50, "A") == NOT_NOW
    assert room.take(50, "B").wants == [Wants(1, ("one:plain",))]
    slots.close()


def test_who_asked_while_it_was_in_use_asks_again_if_it_was_freed_meanwhile(files: Path) -> None:
    room = room_of(host(files, gpu=1))
    running = claim("two:card")
    room.give_back(room.take(50, "A"), [running])
    taken = room.take(5, "B")
    room.ended(running)
    assert room.give_back(taken, [])
    room.leave("A")
    assert Wants(1, ("one:card", "two:card")) in room.take(50, "B").wants


def test_who_used_up_a_bound_asks_again_for_it_is_that_of_the_largest(files: Path) -> None:
    room = room_of(host(files, gpu=1, vram=40))
    taken = room.take(50)
    assert taken.wants[-1] == Wants(1, ("one:card", "two:card", "three:memory"))
    assert room.give_back(taken, [claim("three:memory")])
    taken = room.take(50)
    assert room.give_back(taken, [claim("one:card")])
    assert room.take(50).wants[-1] == Wants(3, ("three:memory",))


def test_nothing_is_left_reserved_when_all_has_ended(files: Path) -> None:
    room = room_of(host(files, gpu=3, vram=25))
    running: list[Claim] = []
    for step in range(300):
        taken = room.take(1 + step % 5, "AB"[step % 2])
        bound = next((want for want in taken.wants if want.capacity >= 0), None)
        got = [claim(bound.routes[step % len(bound.routes)])] if bound else []
        running += got
        room.give_back(taken, got)
        while running and step % 3 == 0:
            room.ended(running.pop(0))
    for one in running:
        room.ended(one)
    for partition in "ABAB":
        taken = room.take(50, partition)
        room.give_back(taken, [])
    assert room.take(50, "A").wants[-1].capacity == 2, "25 of memory hold two that need 10"
