"""Processes of a host take turns with its slots: who lacks one gets one, and who asks for none holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from flowq.engine.capacity.host_room import HostRoom
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import PATIENCE_SECONDS, TURN_SECONDS, QueueSlots
from flowq.model.outcome import Claim, Token
from tests.engine.processes import running_python, said

# A process with slots of its own and a clock that is told the time: each line of its input is an expression.
_TAKER = (
    "import sys\n"
    "from pathlib import Path\n"
    "from flowq.engine.capacity.slots import QueueSlots\n"
    "now = [0.0]\n"
    "slots = QueueSlots(Path(sys.argv[1]), {'gpu': int(sys.argv[2])}, lambda: now[0])\n"
    "for line in sys.stdin:\n"
    "    print(eval(line), flush=True)\n"
)
TAKE, GIVE_BACK = "slots.take('gpu', 1)", "slots.give_back('gpu', 1)"
LACK, LACK_NONE, LOOK = "slots.lack(['gpu'])", "slots.lack([])", "slots.look()"
OUT_OF_ROOM = "slots.look(is_open=False)"
TURN_IS_OVER = f"now.append(now.pop() + {TURN_SECONDS})"
NOBODY_LOOKED = f"now.append(now.pop() + {PATIENCE_SECONDS})"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def taker(directory: Path, count: int = 1):
    return running_python(_TAKER, str(directory), str(count))


def ask(process: subprocess.Popen[str], *asked: str) -> str:
    """The last one's answer."""
    assert process.stdin is not None
    for one in asked:
        process.stdin.write(f"{one}\n")
        process.stdin.flush()
    return [said(process) for _ in asked][-1]


def test_who_lacks_slots_gets_one_when_the_turn_of_the_one_that_has_them_is_over(directory: Path) -> None:
    with taker(directory) as busy, taker(directory) as other:
        assert ask(busy, TAKE) == "1"
        assert ask(other, TAKE, LACK, LOOK) == "False"
        assert ask(busy, GIVE_BACK, TAKE) == "1", "it is its turn"
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "0", "it would have been its own again"
        assert ask(busy, LACK, LOOK) == "False"
        assert ask(other, LOOK) == "True"
        assert ask(other, TAKE, LACK_NONE) == "None"
        assert ask(busy, LOOK) == "False"
        assert ask(other, TURN_IS_OVER, GIVE_BACK, TAKE) == "0", "now the other one waits at the door"
        assert ask(busy, LOOK) == "True"


def test_a_third_one_waits_until_nobody_is_at_the_door(directory: Path) -> None:
    with taker(directory) as busy, taker(directory) as first, taker(directory) as second:
        ask(busy, TAKE)
        ask(first, TAKE, LACK)
        ask(second, TAKE, LACK)
        ask(busy, TURN_IS_OVER, GIVE_BACK)
        assert ask(second, LOOK) == "False"
        assert ask(first, LOOK, TAKE) == "1"
        assert ask(first, LACK_NONE, GIVE_BACK) == "None"
        assert ask(second, LOOK, TAKE) == "1"


def test_all_but_one_slot_go_on_being_taken(directory: Path) -> None:
    with taker(directory, 3) as busy, taker(directory, 3) as other:
        assert ask(busy, "slots.take('gpu', 3)") == "3"
        assert ask(other, TAKE, LACK) == "None"
        assert ask(busy, TURN_IS_OVER, "slots.give_back('gpu', 3)", "slots.take('gpu', 3)") == "2"
        assert ask(other, "slots.take('gpu', 3)") == "1"


def test_a_process_with_fewer_slots_is_left_one_that_it_can_use(directory: Path) -> None:
    with taker(directory, 3) as busy, taker(directory, 1) as other:
        assert ask(busy, "slots.take('gpu', 3)") == "3"
        assert ask(other, TAKE, LACK) == "None"
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "0"
        assert ask(other, TAKE) == "1"


def test_nothing_is_left_for_long_to_one_that_does_not_look(directory: Path) -> None:
    with taker(directory) as busy, taker(directory) as other:
        ask(busy, TAKE)
        ask(other, TAKE, LACK)
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "0"
        assert ask(busy, NOBODY_LOOKED, TAKE) == "1"
        assert ask(busy, GIVE_BACK, TAKE) == "1", "and then it is its turn"


@pytest.mark.parametrize("end", [OUT_OF_ROOM, LACK_NONE, "slots.close()"])
def test_nothing_is_left_to_one_that_has_no_use_for_it(directory: Path, end: str) -> None:
    with taker(directory) as busy, taker(directory) as other:
        ask(busy, TAKE)
        ask(other, TAKE, LACK)
        ask(other, end)
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "1"


def test_nothing_is_left_to_a_process_that_was_killed(directory: Path) -> None:
    with taker(directory) as busy, taker(directory) as other:
        ask(busy, TAKE)
        ask(other, TAKE, LACK)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "1"


def test_who_has_some_does_not_hold_others_up_to_get_more(directory: Path) -> None:
    with taker(directory, 2) as one, taker(directory, 2) as other:
        assert ask(one, TAKE) == "1"
        assert ask(other, "slots.take('gpu', 2)") == "1"
        ask(other, LACK)
        assert ask(one, TURN_IS_OVER, GIVE_BACK, TAKE) == "1"


def test_two_workers_in_one_process_take_turns_too(directory: Path) -> None:
    now = [0.0]
    one, other = (QueueSlots(directory, {"gpu": 1}, lambda: now[0]) for _ in range(2))
    assert (one.take("gpu", 1), other.take("gpu", 1)) == (1, 0)
    other.lack(["gpu"])
    now[0] += TURN_SECONDS
    one.give_back("gpu", 1)
    assert (one.take("gpu", 1), other.look(), other.take("gpu", 1)) == (0, True, 1)
    one.close()
    other.close()


def claim(route: str) -> Claim:
    return Claim("f1", 0, "", Token(1, "n"), 1, 0, 0, 0, b"", {}, route)


def host_room(directory: Path, has: Mapping[str, int]) -> tuple[WorkerRoom, list[str]]:
    needs = {"card": (("gpu", 1),), "cards": (("gpu", 2),), "both": (("gpu", 1), ("vram", 1))}
    room = WorkerRoom(
        {"one": [f"one:{name}" for name in needs]}, 10, suspects={}, host=HostRoom(QueueSlots(directory, has), needs)
    )
    told: list[str] = []
    room.on_turn(told.append)
    return room, told


@pytest.mark.anyio
async def test_a_partition_that_lacked_room_is_told_when_another_process_has_left_some(directory: Path) -> None:
    room, told = host_room(directory, {"gpu": 1})
    with taker(directory) as busy:
        ask(busy, TAKE)
        assert not room.give_back(room.take(50, "A"), [])
        room.leave("A")
        await room.run_once()
        assert not told
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "0"
        await room.run_once()
    assert told == ["A"]
    assert room.take(50, "A").room == {"gpu": 1}


@pytest.mark.anyio
async def test_nothing_is_held_back_for_a_stage_that_needs_more_than_others(directory: Path) -> None:
    room, _ = host_room(directory, {"gpu": 2})
    with taker(directory, 2) as busy:
        ask(busy, TAKE)
        taken = room.take(50, "A")
        assert taken.room == {"gpu": 1}
        room.give_back(taken, [])
        await room.run_once()
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, "slots.take('gpu', 2)") == "2"


@pytest.mark.anyio
async def test_a_process_that_ends_holds_nobody_up(directory: Path) -> None:
    room, _ = host_room(directory, {"gpu": 1})
    with taker(directory) as busy:
        ask(busy, TAKE)
        room.give_back(room.take(50, "A"), [])
        room.is_closed = True
        await room.run_once()
        assert ask(busy, TURN_IS_OVER, GIVE_BACK, TAKE) == "1"
