"""What a process has room for, and that suspects get a turn and run alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import QueueSlots
from flowq.engine.capacity.taken import Taken
from flowq.model.outcome import Claim, Token

NOT_NOW = Taken(is_partial=True)
ROUTES = {"gpu": ["gpu:a"], "cpu": ["cpu:a", "cpu:b"]}


def claim(route: str) -> Claim:
    return Claim("f1", 0, "", Token(1, "n"), 1, 0, 0, 0, b"", {}, route)


def names(taken: Taken) -> set[str]:
    return {route for want in taken.wants for route in want.routes}


def suspects(taken: Taken) -> set[str]:
    return {route for want in taken.wants for route in want.suspects}


def test_room_is_taken_and_given_back() -> None:
    room = WorkerRoom(ROUTES, 3)
    taken = room.take(50)
    assert (taken.capacity, names(taken)) == (3, {"gpu:a", "cpu:a", "cpu:b"})
    assert not room.is_open
    assert room.take(50) == NOT_NOW
    claims = [claim("gpu:a")]
    room.give_back(taken, claims)
    assert room.take(50).capacity == 2
    room.ended(claims[0])


def test_where_nothing_runs_a_suspect_may() -> None:
    room = WorkerRoom(ROUTES, 5)
    taken = room.take(50)
    assert (taken.capacity, suspects(taken)) == (5, {"gpu:a!", "cpu:a!", "cpu:b!"})
    assert room.take(50) == NOT_NOW, "it may get one, and nothing may be beside it"
    running = claim("cpu:a")
    room.give_back(taken, [running])
    taken = room.take(50)
    assert (taken.capacity, names(taken), suspects(taken)) == (4, {"gpu:a", "cpu:a", "cpu:b"}, set())
    room.give_back(taken, [])
    room.ended(running)
    assert suspects(room.take(50))


def test_while_a_suspect_runs_nothing_else_does() -> None:
    room = WorkerRoom(ROUTES, 5)
    suspect = claim("gpu:a!")
    room.give_back(room.take(50), [suspect])
    assert not room.is_open
    assert room.take(50) == NOT_NOW
    room.ended(suspect)
    assert room.take(50).capacity == 5


def test_who_runs_one_at_a_time_asks_for_both_at_once() -> None:
    room = WorkerRoom({}, 1, suspects=ROUTES)
    assert names(room.take(50)) == {"gpu:a!", "cpu:a!", "cpu:b!"}


def test_who_is_told_to_takes_no_suspects() -> None:
    taken = WorkerRoom(ROUTES, 5, suspects={}).take(50)
    assert (taken.capacity, names(taken), suspects(taken)) == (5, {"gpu:a", "cpu:a", "cpu:b"}, set())


def test_the_slots_of_a_host_are_shared_and_given_back(tmp_path: Path) -> None:
    slots = QueueSlots(tmp_path / "slots", {"gpu": 1})
    one = WorkerRoom(ROUTES, 5, slots=slots, limited=["gpu"])
    other = WorkerRoom(ROUTES, 5, slots=slots, limited=["gpu"])
    taken = one.take(50)
    assert [want.capacity for want in taken.wants] == [1, -1]
    assert names(other.take(50)) == {"cpu:a", "cpu:b"}
    running = claim("gpu:a")
    one.give_back(taken, [running])
    assert names(one.take(50)) == {"cpu:a", "cpu:b"}
    one.ended(running)
    fresh = WorkerRoom(ROUTES, 5, slots=slots, limited=["gpu"])
    assert "gpu:a" in names(fresh.take(50))
    slots.close()


@pytest.mark.parametrize("concurrency", [1, 2, 50])
def test_no_order_of_calls_loses_room(concurrency: int) -> None:
    room = WorkerRoom(ROUTES, concurrency)
    running: list[Claim] = []
    for step in range(500):
        taken = room.take(50)
        routes = sorted(names(taken))
        got = [claim(routes[step % len(routes)]) for _ in range(min(taken.capacity, step % 3))] if routes else []
        running += got
        room.give_back(taken, got)
        while running and step % 2:
            room.ended(running.pop())
    for one in running:
        room.ended(one)
    assert room.is_open
    assert room.take(10_000).capacity == concurrency


def test_a_process_makes_way_for_suspects_only_as_long_as_one_waits() -> None:
    room = WorkerRoom(ROUTES, 5)
    running = claim("cpu:a")
    room.give_back(room.take(50), [running])
    room.make_way([""])
    assert room.take(50) == NOT_NOW, "first all must end that runs"
    room.make_way([])
    assert room.take(50).capacity == 4, "somebody else has taken it"
    room = WorkerRoom(ROUTES, 5)
    room.make_way([""])
    taken = room.take(50)
    assert (names(taken), suspects(taken)) == (set(), {"gpu:a!", "cpu:a!", "cpu:b!"})
    room.give_back(taken, [])
    assert names(room.take(50)) == {"gpu:a", "cpu:a", "cpu:b"}


def test_each_partition_for_which_way_is_made_has_one_turn_and_no_other_uses_it_up() -> None:
    room = WorkerRoom(ROUTES, 5)
    room.make_way(["A", "B"])
    for partition in ("C", "B"):
        assert room.take(50, partition) == NOT_NOW, "it is A's turn"
    taken = room.take(50, "A")
    assert (names(taken), suspects(taken)) == (set(), {"gpu:a!", "cpu:a!", "cpu:b!"})
    room.give_back(taken, [])
    assert room.take(50, "C") == NOT_NOW, "it is B's turn, though C came first"
    suspect = claim("cpu:a!")
    room.give_back(room.take(50, "B"), [suspect])
    assert not room.is_open
    room.ended(suspect)
    assert names(room.take(50, "C")) == {"gpu:a", "cpu:a", "cpu:b"}


def test_looking_again_for_suspects_puts_nobody_back_in_the_order_of_turns() -> None:
    room = WorkerRoom(ROUTES, 5)
    room.make_way(["B"])
    room.make_way(["A", "B"])
    assert room.admits("B")
    assert not room.admits("A")


def test_a_turn_for_which_other_processes_hold_all_slots_is_over(tmp_path: Path) -> None:
    slots = QueueSlots(tmp_path / "slots", {"gpu": 1})
    assert slots.take("gpu", 1) == 1
    room = WorkerRoom({"gpu": ["gpu:a"]}, 5, suspects={"gpu": ["gpu:a"]}, slots=slots, limited=["gpu"])
    room.make_way(["A"])
    assert not room.admits("B")
    opened: list[bool] = []
    room.on_turn(lambda _: opened.append(room.admits("B")))
    assert room.take(50, "A").capacity == 0
    assert opened == [True]
    slots.close()


def test_each_partition_has_its_turn_before_another_has_two() -> None:
    room = WorkerRoom(ROUTES, 1)
    room.give_back(room.take(50, "A"), [first := claim("cpu:a")])
    assert not any(room.admits(partition) for partition in ("A", "B"))
    room.ended(first)
    room.give_back(room.take(50, "A"), [second := claim("cpu:a")])
    assert not room.admits("A")
    room.ended(second)
    assert not room.admits("A"), "it is B's turn"
    assert room.take(50, "B").capacity == 1


def test_who_leaves_the_queue_for_room_lets_the_next_one_in() -> None:
    room = WorkerRoom(ROUTES, 5)
    taken = room.take(50, "A")
    assert not room.admits("A")
    assert not room.admits("B")
    room.give_back(taken, [])
    assert not room.admits("B"), "it is A's turn"
    opened: list[bool] = []
    room.on_turn(lambda _: opened.append(room.admits("B")))
    room.leave("A")
    assert opened == [True]


def test_who_runs_nothing_but_suspects_waits_longer_for_a_wake_up_unless_one_runs() -> None:
    room = WorkerRoom({}, 1, suspects=ROUTES)
    assert WorkerRoom(ROUTES, 1, suspects=ROUTES).patience == 1
    assert room.patience > 1
    suspect = claim("cpu:a!")
    room.give_back(room.take(50), [suspect])
    assert room.patience == 1, "it is to hear at once that it was cancelled"
    room.ended(suspect)
    assert room.patience > 1
