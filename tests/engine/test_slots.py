"""Queue slots are shared by the processes of a host, never given out twice, and freed by the kernel."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from flowq.engine.capacity.slots import QueueSlots
from flowq.errors import InvalidValue, SlotsUnusable
from tests.engine.processes import running_python, said

_HOLDER = (
    "import sys\n"
    "from pathlib import Path\n"
    "from flowq.engine.capacity.slots import QueueSlots\n"
    "slots = QueueSlots(Path(sys.argv[1] if len(sys.argv) > 1 else {directory!r}), {{'gpu': {count}}})\n"
    "for line in sys.stdin:\n"
    "    number = int(line)\n"
    "    print(slots.take('gpu', number) if number >= 0 else slots.give_back('gpu', -number), flush=True)\n"
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "slots"


def holder(directory: Path, count: int = 3) -> str:
    return _HOLDER.format(directory=str(directory), count=count)


def ask(process, number: int) -> str:
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    return said(process)


def test_no_more_slots_are_given_than_there_are(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 2, "cpu": 1})
    assert [slots.take("gpu", 5), slots.take("gpu", 5), slots.take("cpu", 1), slots.take("cpu", 0)] == [2, 0, 1, 0]
    slots.give_back("gpu", 1)
    assert slots.take("gpu", 5) == 1
    assert slots.held("gpu") == 2
    slots.close()


def test_processes_share_the_slots_of_a_queue(directory: Path) -> None:
    with running_python(holder(directory)) as one, running_python(holder(directory)) as two:
        assert ask(one, 2) == "2"
        assert ask(two, 9) == "1"
        assert ask(one, 9) == "0"
        assert ask(one, -1) == "None"
        assert ask(two, 9) == "1"


def test_the_slots_of_a_killed_process_are_free_at_once(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 3})
    with running_python(holder(directory)) as process:
        assert ask(process, 3) == "3"
        assert slots.take("gpu", 1) == 0
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert slots.take("gpu", 3) == 3
    slots.close()


def test_two_workers_in_one_process_share_the_slots_too(directory: Path) -> None:
    one, two = QueueSlots(directory, {"gpu": 3}), QueueSlots(directory, {"gpu": 3})
    assert (one.take("gpu", 2), two.take("gpu", 3)) == (2, 1)
    two.close()
    # Closing a descriptor drops every lock of the process on that file, unless it is the last user's.
    with running_python(holder(directory)) as process:
        assert ask(process, 3) == "1"
    one.close()


def test_a_process_with_fewer_slots_keeps_to_its_own_number(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 4})
    assert slots.take("gpu", 2) == 2
    with running_python(holder(directory, count=2)) as process:
        assert ask(process, 2) == "0"
        slots.give_back("gpu", 1)
        assert ask(process, 2) == "1"
    slots.close()


def test_closing_gives_everything_back(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 3})
    slots.take("gpu", 3)
    slots.close()
    slots.close()
    with running_python(holder(directory)) as process:
        assert ask(process, 3) == "3"
    with pytest.raises(InvalidValue, match="closed"):
        slots.take("gpu", 1)


def test_threads_never_get_the_same_slot(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 50})
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(slots.take("gpu", 10))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 50
    slots.close()


@pytest.mark.parametrize("slots", [{"../evil": 1}, {"": 1}, {"a/b": 1}, {"gpu": 0}, {"gpu": -1}, {"gpu": True}, {"gpu": 10**9}])
def test_a_queue_that_is_out_of_range_is_refused_before_a_file_is_made(directory: Path, slots: dict[str, int]) -> None:
    with pytest.raises(InvalidValue):
        QueueSlots(directory, slots)
    assert not directory.exists()


def test_wrong_calls_are_refused(directory: Path) -> None:
    slots = QueueSlots(directory, {"gpu": 1})
    for call in (lambda: slots.take("cpu", 1), lambda: slots.take("gpu", -1), lambda: slots.give_back("gpu", 1)):
        with pytest.raises(InvalidValue):
            call()
    slots.close()


@pytest.mark.usefixtures("threads_take_turns_often")
def test_threads_give_back_at_the_same_time_what_was_taken(directory: Path) -> None:
    failures: list[BaseException] = []
    for _ in range(100):
        slots = QueueSlots(directory, {"gpu": 8})
        assert slots.take("gpu", 8) == 8
        slots.retire()
        at_once = threading.Barrier(8)

        def gives_back(slots: QueueSlots = slots, at_once: threading.Barrier = at_once) -> None:
            at_once.wait()
            try:
                slots.give_back("gpu", 1)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=gives_back) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    again = QueueSlots(directory, {"gpu": 8})
    assert again.take("gpu", 8) == 8
    again.close()


def test_the_directory_is_private(directory: Path) -> None:
    QueueSlots(directory, {"gpu": 1}).close()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "gpu.slots").stat().st_mode & 0o777 == 0o600


def test_a_directory_that_others_may_enter_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    with pytest.raises(SlotsUnusable, match="not private"):
        QueueSlots(directory, {"gpu": 1})


def test_links_and_files_in_place_of_the_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file", "file/below"):
        with pytest.raises(SlotsUnusable):
            QueueSlots(tmp_path / name, {"gpu": 1})


def test_a_link_in_place_of_a_slot_file_is_refused(directory: Path, tmp_path: Path) -> None:
    directory.mkdir(mode=0o700)
    (directory / "gpu.slots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SlotsUnusable):
        QueueSlots(directory, {"gpu": 1})
    assert not (tmp_path / "elsewhere").exists()
