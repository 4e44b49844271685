"""Process groups: killing one, and the guard that kills them when this process can't."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from flowq.engine.process.process_groups import GroupGuard, has_exited, kill_group, wait_for_exit
from tests.engine.processes import is_running, running_python, said, wait_until_gone


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [0, 1, -1, -5])
def test_numbers_that_mean_more_than_one_group_are_never_killed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one thing that can't be tried for real: killpg(0) would end the tests, killpg(1) the machine.
    killed: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pgid, _: killed.append(pgid))
    kill_group(number)
    kill_group(os.getpgrp())
    assert killed == []


def test_a_group_that_is_gone_is_no_error(sleeper: subprocess.Popen[bytes]) -> None:
    kill_group(sleeper.pid)
    sleeper.wait()
    kill_group(sleeper.pid)


def test_an_exit_is_learnt_without_giving_the_pid_away(sleeper: subprocess.Popen[bytes]) -> None:
    assert not has_exited(sleeper)
    kill_group(sleeper.pid)
    wait_for_exit(sleeper)
    assert has_exited(sleeper)
    assert sleeper.wait() == -signal.SIGKILL
    assert has_exited(sleeper)


def test_a_dismissed_guard_kills_what_it_watches_and_not_what_it_was_told_to_forget(sleeper: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    guard = GroupGuard()
    for process in (sleeper, other):
        guard.watch(process.pid)
    guard.forget(sleeper.pid)
    guard.dismiss()
    assert other.wait() == -signal.SIGKILL
    assert not has_exited(sleeper)


def test_a_guard_that_was_killed_is_replaced(sleeper: subprocess.Popen[bytes]) -> None:
    guard = GroupGuard()
    guard.watch(sleeper.pid)
    first = guard.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until_gone(first)
    guard.watch(1_000_000_000)  # no such group; telling it finds the pipe broken
    assert guard.pid not in (None, first)
    guard.dismiss()
    assert sleeper.wait() == -signal.SIGKILL


def test_the_guard_outlives_a_signal_to_the_group_of_its_process() -> None:
    source = (
        "import signal, subprocess, sys\n"
        "from flowq.engine.process.process_groups import group_guard\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "process = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "group_guard.watch(process.pid)\n"
        "print(process.pid, group_guard.pid, flush=True)\n"
        "sys.stdin.read()"
    )
    with running_python(source) as process:
        watched, guard = (int(word) for word in said(process).split())
        os.kill(guard, signal.SIGINT)
        os.kill(guard, signal.SIGTERM)
        os.kill(process.pid, signal.SIGKILL)
        wait_until_gone(watched)
        wait_until_gone(guard)


def test_a_fork_that_outlives_its_process_does_not_hold_the_guard_back() -> None:
    source = (
        "import os, subprocess, time\n"
        "from flowq.engine.process.process_groups import group_guard\n"
        "process = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "group_guard.watch(process.pid)\n"
        "fork = os.fork()\n"
        "if fork == 0:\n"
        "    time.sleep(1000)\n"
        "print(process.pid, fork, flush=True)\n"
        "time.sleep(1000)"
    )
    with running_python(source) as process:
        watched, fork = (int(word) for word in said(process).split())
        os.kill(process.pid, signal.SIGKILL)
        wait_until_gone(watched)
        assert is_running(fork)
        os.kill(fork, signal.SIGKILL)
