"""A child process and its supervisor: what each tells the other, and that neither outlives the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop

from flowq.engine.process.child_process import DRAIN, ChildExit, ChildProcess
from flowq.engine.process.parent_link import Note, Ready, Retire
from tests.engine.processes import OPEN_LINK, PATIENCE_SECONDS, ROOT, RUN_PROGRAM, SLEEP_ON, running_python, said, wait_until_gone
from tests.engine.work import count_open
from tests.stories.processes import all_processes

_READY = "link.say(Ready())\n"


class Scene:
    """Starts children whose module is written for the test, and collects what they say."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.said: list[Ready | Retire | Note] = []
        self._arrived = asyncio.Event()

    def module(self, source: str) -> str:
        self._count += 1
        name = f"child_of_test_{self._count}"
        (self._directory / f"{name}.py").write_text(source)
        return name

    async def start(self, source: str, configuration: object = None, **options) -> ChildProcess:
        env = {**os.environ, "PYTHONPATH": f"{self._directory}:{ROOT}"}
        return await ChildProcess.start(self.module(source), configuration, on_message=self._hear, env=env, **options)

    async def hear(self) -> Ready | Retire | Note:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.said:
                self._arrived.clear()
                await self._arrived.wait()
        return self.said.pop(0)

    def _hear(self, message: Ready | Retire | Note) -> None:
        self.said.append(message)
        self._arrived.set()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    def run(act: Callable[[Scene], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(2 * PATIENCE_SECONDS):
                await act(Scene(tmp_path))

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(main())

    return run


def test_a_child_gets_its_configuration_and_says_that_it_is_ready(play) -> None:
    class Configuration(msgspec.Struct):
        url: str
        secret: str

    async def act(scene: Scene) -> None:
        child = await scene.start(
            OPEN_LINK + "link.say(Note('got', link.configuration(dict)))\nlink.say(Ready())",
            Configuration("redis://h", "s3cr3t\n" * 50_000),
        )
        assert await scene.hear() == Note("got", {"url": "redis://h", "secret": "s3cr3t\n" * 50_000})
        assert await scene.hear() == Ready()
        assert await child.exited() == ChildExit(child.pid, 0, None)

    play(act)


@pytest.mark.skipif(not Path("/proc").exists(), reason="reads /proc")
def test_no_secret_is_in_the_arguments_or_the_environment(play) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + _READY + SLEEP_ON, {"secret": "canary-7361"})
        await scene.hear()
        for name in ("cmdline", "environ"):
            with open(f"/proc/{child.pid}/{name}", "rb") as file:  # noqa: ASYNC230 - /proc never blocks
                assert b"canary-7361" not in file.read()
        await child.terminate(0)

    play(act)


def test_commands_arrive_in_order_even_those_sent_before_anyone_listens(play) -> None:
    listen = (
        "async def main():\n"
        "    async for command in link.commands():\n"
        "        link.say(Note('command', command))\n"
        "        if command == 'stop': return\n"
        "asyncio.run(main())\n"
    )

    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + listen)
        child.command(DRAIN)
        child.command("other")
        assert await scene.hear() == Note("command", "drain")
        assert await scene.hear() == Note("command", "other")
        assert (await child.terminate(PATIENCE_SECONDS)).reason == "ended with exit code 0"
        child.command(DRAIN)  # too late, and no error

    play(act)


def test_a_child_that_does_not_stop_is_killed_after_the_grace(play) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + _READY + SLEEP_ON)
        await scene.hear()
        ended = await child.terminate(0.1)
        assert ended == ChildExit(child.pid, -signal.SIGKILL, "SIGKILL")
        assert ended.reason == "killed by SIGKILL"

    play(act)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os; os._exit(7)", "ended with exit code 7"),
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 40)", "killed by signal 40"),
    ],
)
def test_every_death_is_told_by_its_name(play, source: str, reason: str) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + source)
        assert (await child.exited()).reason == reason

    play(act)


def test_a_module_that_does_not_exist_is_an_exit(play, tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        child = await ChildProcess.start("no_such_module_here", None, on_message=lambda message: None)
        assert (await child.exited()).exit_code == 1

    play(act)


_REFUSED = """
import asyncio, os, resource, sys
from flowq.engine.process.child_process import ChildProcess

def descriptors():
    return len(os.listdir("/proc/self/fd"))

async def main():
    await (await ChildProcess.start("no_such_module_here", None, on_message=print)).exited()  # what the loop opens once
    before, (_, hard) = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
    refusals = 0
    for most in range(before, before + 50):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        try:
            child = await ChildProcess.start("no_such_module_here", None, on_message=print)
        except OSError:
            refusals += 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            assert descriptors() == before, f"{descriptors() - before} descriptors left at {most - before} to be had"
        else:
            return print(refusals, (await child.exited()).exit_code)

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="counts descriptors in /proc")
def test_a_start_for_which_there_are_too_few_descriptors_leaves_none_open() -> None:
    with running_python(_REFUSED) as process:
        refusals, exit_code = map(int, said(process).split())
    assert refusals > 4, "at the first pipe, at the second, and in the fork"
    assert exit_code == 1


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
def test_a_start_for_which_there_is_no_thread_leaves_no_process(play) -> None:
    def children() -> list[int]:
        return [process.pid for process in all_processes().values() if process.parent == os.getpid()]

    async def act(scene: Scene) -> None:
        before = count_open(), children()
        threading.stack_size(1 << 46)  # more than there is memory for
        try:
            with pytest.raises(BlockingIOError, match="thread"):
                await scene.start(OPEN_LINK + _READY + SLEEP_ON)
        finally:
            threading.stack_size(0)
        assert (count_open(), children()) == before

    play(act)


def test_the_last_words_of_a_killed_child_are_heard_before_its_exit(play) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + "link.say(Retire('enough'))\nos.kill(os.getpid(), signal.SIGKILL)")
        assert (await child.exited()).reason == "killed by SIGKILL"
        assert scene.said == [Retire("enough")]

    play(act)


def test_what_a_child_says_when_the_loop_is_gone_is_not_decoded_any_more(play, caplog: pytest.LogCaptureFixture) -> None:
    """The thread that waits for it may meet the end of the interpreter, which a C extension at work does not survive."""
    begun: list[tuple[ChildProcess, threading.Thread]] = []
    rubbish = "signal.signal(signal.SIGTERM, lambda *_: (os.write(link._opening.control_fd, b'{\\n'), os._exit(0)))\n"

    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + rubbish + _READY + SLEEP_ON)
        (waiting,) = (thread for thread in threading.enumerate() if thread.name == f"flowq-child-{child.pid}")
        begun.append((child, waiting))
        await scene.hear()

    play(act)
    ((child, waiting),) = begun
    # uvloop closes the lifeline with the loop, so that the child may have ended by itself.
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGTERM)
    waiting.join(PATIENCE_SECONDS)
    assert child._process.returncode in (0, -signal.SIGKILL), "it is reaped nevertheless"
    assert "is no message" not in caplog.text


def test_rubbish_on_the_control_pipe_is_dropped(play, caplog: pytest.LogCaptureFixture) -> None:
    async def act(scene: Scene) -> None:
        rubbish = 'os.write(link._opening.control_fd, b\'{"kind": "evil"}\\n\\xff\\n[]\\n\')\n'
        child = await scene.start(OPEN_LINK + rubbish + "link.announce_group(0, True); link.announce_group(1, True)\n" + _READY)
        assert await scene.hear() == Ready()
        await child.exited()

    play(act)
    assert len([record for record in caplog.records if "is no message" in record.getMessage()]) == 3


def test_the_programs_of_a_killed_child_are_killed(play) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(OPEN_LINK + RUN_PROGRAM)
        note = await scene.hear()
        assert isinstance(note, Note)
        _, group, grandchild = note.body
        assert child.groups == {group}
        child.kill()
        await child.exited()
        wait_until_gone(group)
        wait_until_gone(grandchild)

    play(act)


def test_forks_of_a_child_end_with_it(play) -> None:
    async def act(scene: Scene) -> None:
        fork = "fork = os.fork()\nif fork == 0: time.sleep(1000)\nlink.say(Note('fork', fork))\n"
        child = await scene.start(OPEN_LINK + fork + "time.sleep(0.1)\nos._exit(0)")
        note = await scene.hear()
        assert isinstance(note, Note)
        assert (await child.exited()).exit_code == 0
        wait_until_gone(note.body)

    play(act)


def test_stages_find_dev_null_on_stdin_and_no_control_pipe(play) -> None:
    async def act(scene: Scene) -> None:
        child = await scene.start(
            OPEN_LINK + "import subprocess\nlink.say(Note('read', sys.stdin.read()))\n"
            "out = subprocess.run(['sh', '-c', f'echo x >&{link._opening.control_fd}'], close_fds=False, stderr=-3)\n"
            "link.say(Note('code', out.returncode))"
        )
        assert await scene.hear() == Note("read", "")
        code = await scene.hear()
        assert isinstance(code, Note)
        assert code.body != 0
        await child.exited()

    play(act)


def test_descriptors_are_passed_under_their_numbers(play, tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        read_end, write_end = os.pipe()
        child = await scene.start(OPEN_LINK + "os.write(link.configuration(int), b'hello')", write_end, pass_fds=[write_end])
        os.close(write_end)
        await child.exited()
        assert os.read(read_end, 100) == b"hello"
        os.close(read_end)

    play(act)


def test_a_supervisor_that_reads_nothing_does_not_block_its_child(play) -> None:
    talk = "for n in range(5_000): link.say(Note('n', [n, 'x' * 100]))\nos.write(link.configuration(int), b'.')\n" + SLEEP_ON

    async def act(scene: Scene) -> None:
        read_end, write_end = os.pipe()
        child = await scene.start(OPEN_LINK + talk, write_end, pass_fds=[write_end])
        assert os.read(read_end, 1) == b"."  # this blocks the supervisor's loop until the child has said everything
        for number in range(5_000):  # and nothing was lost
            note = await scene.hear()
            assert isinstance(note, Note)
            assert note.body[0] == number
        await child.terminate(0)
        os.close(read_end)
        os.close(write_end)

    play(act)


def test_each_child_has_commands_of_its_own(play) -> None:
    echo = (
        "async def main():\n"
        "    async for command in link.commands(): link.say(Note(link.configuration(str), command))\n"
        "asyncio.run(main())"
    )

    async def act(scene: Scene) -> None:
        one, two = await scene.start(OPEN_LINK + echo, "one"), await scene.start(OPEN_LINK + echo, "two")
        two.command("hello")
        assert await scene.hear() == Note("two", "hello")
        one.kill()
        await one.exited()
        two.command("still there")
        assert await scene.hear() == Note("two", "still there")
        await two.terminate(0)

    play(act)


def test_an_exit_is_noticed_while_other_children_run(play) -> None:
    async def act(scene: Scene) -> None:
        others = [await scene.start(OPEN_LINK + _READY + SLEEP_ON) for _ in range(2)]
        child = await scene.start(OPEN_LINK + _READY + SLEEP_ON)
        for _ in range(3):
            await scene.hear()
        began_at = time.monotonic()
        os.kill(child.pid, signal.SIGKILL)
        await child.exited()
        print(f"noticed after {(time.monotonic() - began_at) * 1000:.1f} ms")
        assert not any(other._exit.done() for other in others)
        for other in others:
            await other.terminate(0)

    play(act)
