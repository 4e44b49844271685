"""Programs that stages run: output, stalls, time limits, cancelling, and that nothing of them is ever left behind."""

from __future__ import annotations

import asyncio
import contextvars
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flowq.engine.process.program import STDERR_TAIL_BYTES, STDOUT_TAIL_BYTES, run_program, run_program_async
from flowq.errors import (
    FlowqError,
    InvalidValue,
    ProgramFailed,
    ProgramNotStarted,
    ProgramStalled,
    ProgramStopped,
    ProgramTimedOut,
)
from tests.engine.processes import is_running, running_python, said, wait_until_gone

# Prints the pid of a child of its own, then waits for ever; both are in one process group.
_WITH_CHILD = "sleep 1000 & echo $!; wait"
_DEAF = "trap '' TERM; echo deaf; while :; do sleep 1000; done"


def python(source: str) -> list[str]:
    return [sys.executable, "-S", "-c", source]


def test_a_program_that_ends_well_reports_its_output() -> None:
    completed = run_program(["sh", "-c", "echo out; echo err >&2"])
    assert (completed.stdout_tail, completed.stderr_tail) == ("out\n", "err\n")
    assert completed.seconds > 0


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    odd = ["", " ", "$HOME", "`id`", "a;b", "-n", "--", "ü\n", "'\""]
    completed = run_program(python("import sys; print(sys.argv[1:])") + odd)
    assert completed.stdout_tail == f"{odd}\n"


def test_the_working_directory_and_the_environment_are_those_asked_for(tmp_path: Path) -> None:
    completed = run_program(["sh", "-c", "pwd -P; echo $WORD"], cwd=tmp_path, env={"PATH": os.defpath, "WORD": "hello"})
    assert completed.stdout_tail.splitlines() == [str(tmp_path.resolve()), "hello"]


def test_a_relative_program_is_looked_for_in_its_working_directory(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "tool").chmod(0o755)
    assert run_program(["./tool"], cwd=tmp_path).stdout_tail == "found\n"


def test_stdin_is_empty() -> None:
    assert run_program(["cat"]).stdout_tail == ""


def test_each_line_reaches_the_callback() -> None:
    lines: list[str] = []
    script = r"import sys; sys.stdout.buffer.write(b'one\ntwo\rthree\r\n\n\xff\xc3\xa9\nlast')"
    run_program(python(script), on_line=lines.append)
    assert lines == ["one", "two", "three", "\ufffdé", "last"]


def test_a_line_without_end_is_cut() -> None:
    lines: list[str] = []
    run_program(python("print('x' * 1_000_000); print('next')"), on_line=lines.append)
    assert lines == ["x" * 4096, "next"]


def test_a_failed_program_tells_its_exit_code_and_its_last_words() -> None:
    with pytest.raises(ProgramFailed, match=r"sh ended with exit code 3: no such codec") as caught:
        run_program(["sh", "-c", "echo first >&2; echo no such codec >&2; exit 3"])
    assert caught.value.exit_code == 3
    assert caught.value.stderr_tail == "first\nno such codec\n"


def test_a_program_killed_by_a_signal_says_which() -> None:
    with pytest.raises(ProgramFailed, match="killed by signal 11") as caught:
        run_program(["sh", "-c", "kill -SEGV $$"])
    assert caught.value.exit_code == -signal.SIGSEGV


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        ([], "empty"),
        (["no-such-program-here"], "not on PATH"),
        (["/no/such/program"], "no such file"),
        (["/etc/passwd"], "not executable"),
        (["/"], "not executable"),
        (["ls\0"], "not on PATH"),
        (["echo", "a\0b"], "null byte"),
        (["echo", "x" * 10_000_000], "too long"),
        ([""], "not on PATH"),
    ],
)
def test_a_program_that_can_not_start_says_why(argv: list[str], reason: str) -> None:
    with pytest.raises(ProgramNotStarted, match=reason):
        run_program(argv)


def test_a_missing_working_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramNotStarted, match=r"working directory .*does not exist"):
        run_program(["ls"], cwd=tmp_path / "nowhere")


def test_a_flood_on_both_streams_neither_blocks_nor_fills_the_memory() -> None:
    flood = "import os\nfor _ in range(2_000): os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)"
    completed = run_program(python(flood), on_line=lambda line: None, timeout_seconds=50)
    assert len(completed.stdout_tail) == STDOUT_TAIL_BYTES
    assert len(completed.stderr_tail) == STDERR_TAIL_BYTES


def test_a_silent_program_is_stopped_as_stalled() -> None:
    with pytest.raises(ProgramStalled, match=r"made no progress for 0\.2 s"):
        run_program(["sleep", "1000"], stall_seconds=0.2)


def test_output_is_progress_where_no_fraction_was_ever_told() -> None:
    # Ends only because each line sets the stall clock back: five lines, 0.3 s apart, with a stall of 1 s.
    ticks = "import time\nfor _ in range(5): print(_, flush=True); time.sleep(0.3)"
    assert run_program(python(ticks), stall_seconds=1.0).stdout_tail.endswith("4\n")


def test_a_fraction_that_does_not_grow_is_a_stall_however_chatty_the_program() -> None:
    with pytest.raises(ProgramStalled):
        run_program(["sh", "-c", "while :; do echo same; sleep 0.01; done"], on_line=lambda line: 0.5, stall_seconds=0.4)


def test_a_program_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(ProgramTimedOut, match=r"timeout of 0\.2 s") as caught:
        run_program(["sleep", "1000"], timeout_seconds=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, FlowqError)


def test_cancelling_stops_the_program_and_its_children() -> None:
    cancelled = threading.Event()
    pids: list[int] = []

    def on_line(line: str) -> None:
        pids.append(int(line))
        cancelled.set()

    with pytest.raises(ProgramStopped):
        run_program(["sh", "-c", _WITH_CHILD], on_line=on_line, cancelled=cancelled.is_set)
    wait_until_gone(pids[0])


def test_a_stopped_program_may_still_clean_up(tmp_path: Path) -> None:
    cleaned = tmp_path / "cleaned"
    lines: list[str] = []
    script = f"trap 'touch {cleaned}; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    with pytest.raises(ProgramStopped):
        run_program(["sh", "-c", script], on_line=lines.append, cancelled=lambda: bool(lines), grace_seconds=60)
    assert cleaned.exists()


def test_a_program_that_ignores_sigterm_is_killed() -> None:
    lines: list[str] = []
    with pytest.raises(ProgramStopped):
        run_program(["sh", "-c", _DEAF], on_line=lines.append, cancelled=lambda: bool(lines), grace_seconds=0.2)
    assert lines == ["deaf"]


def test_what_a_program_leaves_running_is_killed_when_it_ends() -> None:
    completed = run_program(["sh", "-c", "sleep 1000 & echo $!"])
    wait_until_gone(int(completed.stdout_tail))


def test_a_process_that_left_the_group_and_holds_the_pipes_does_not_keep_the_stage_waiting() -> None:
    leave = "import os, time\nif os.fork() == 0:\n os.setsid(); print(os.getpid(), flush=True); time.sleep(1000)\nos.wait"
    wait_for_it = leave.replace("os.wait", "time.sleep(0.3)")
    completed = run_program(python(wait_for_it))
    pid = int(completed.stdout_tail)
    assert is_running(pid)
    os.kill(pid, signal.SIGKILL)


def test_an_error_in_the_callback_kills_the_program_and_is_raised() -> None:
    groups: list[tuple[int, bool]] = []

    def on_line(line: str) -> None:
        raise ZeroDivisionError(line)

    with pytest.raises(ZeroDivisionError):
        run_program(["sh", "-c", _WITH_CHILD], on_line=on_line, on_group=lambda pgid, alive: groups.append((pgid, alive)))
    assert [alive for _, alive in groups] == [True, False]
    wait_until_gone(groups[0][0])


def test_the_group_is_announced_before_the_program_runs_and_after_it_ended(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    seen: list[tuple[bool, bool]] = []
    run_program(["touch", str(trace)], on_group=lambda pgid, alive: seen.append((alive, trace.exists())))
    assert seen == [(True, False), (False, True)]


def test_a_killed_process_takes_its_program_and_the_programs_children_along() -> None:
    source = (
        "from flowq.engine.process.program import run_program\n"
        f"run_program(['sh', '-c', {_WITH_CHILD!r}], on_line=lambda pid: print(pid, flush=True),"
        " on_group=lambda pgid, alive: print(pgid, flush=True))"
    )
    with running_python(source) as process:
        group, child = int(said(process)), int(said(process))
        assert is_running(group)
        assert is_running(child)
        os.kill(process.pid, signal.SIGKILL)
        wait_until_gone(group)
        wait_until_gone(child)


def test_many_threads_can_run_programs_at_once() -> None:
    outputs: list[str] = []
    threads = [threading.Thread(target=lambda n=n: outputs.append(run_program(["echo", str(n)]).stdout_tail)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outputs, key=int) == [f"{n}\n" for n in range(16)]


def test_the_async_twin_leaves_the_loop_free_and_keeps_the_context() -> None:
    variable = contextvars.ContextVar("variable", default="")
    loop_ran = threading.Event()
    seen: list[str] = []

    def on_line(line: str) -> None:
        assert loop_ran.wait(30)
        seen.append(variable.get())

    async def main() -> str:
        variable.set("of the task")
        running = asyncio.create_task(run_program_async(["echo", "x"], on_line=on_line))
        asyncio.get_running_loop().call_later(0.05, loop_ran.set)
        return (await running).stdout_tail

    assert asyncio.run(main()) == "x\n"
    assert seen == ["of the task"]


def test_cancelling_the_task_stops_the_program_before_the_task_ends() -> None:
    groups: list[int] = []

    async def main() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        def on_line(line: str) -> None:
            loop.call_soon_threadsafe(started.set)

        running = asyncio.create_task(
            run_program_async(
                ["sh", "-c", _DEAF], on_line=on_line, grace_seconds=0.2, on_group=lambda pgid, _: groups.append(pgid)
            ),
        )
        await started.wait()
        running.cancel()
        await asyncio.sleep(0)
        running.cancel()  # an impatient second cancel must not leave the program behind
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not is_running(groups[0])

    asyncio.run(main())


def test_the_async_twin_raises_what_the_program_did_wrong() -> None:
    with pytest.raises(ProgramFailed):
        asyncio.run(run_program_async(["false"]))


@pytest.mark.parametrize("command", ["ls -l", b"ls", Path("/bin/ls")])
async def test_a_command_that_is_no_list_is_refused(command: Any, anyio_backend: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape("['ls', '-l']")):
        run_program(command)
    with pytest.raises(InvalidValue):
        await run_program_async(command)
