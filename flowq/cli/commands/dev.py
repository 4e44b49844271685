"""`flowq dev [MODULE]`: the embedded servers and a worker that reloads, in one process tree with one Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flowq.cli import exits
from flowq.cli.modules import refuse_missing_module
from flowq.cli.report import note
from flowq.cli.session import output_of, run_async, settings_of
from flowq.cli.source_watch import SourceWatch
from flowq.cli.usage import UsageError
from flowq.model.setting_values import queue_slots
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.embedded import Attachment

_SAMPLE: Final = "flowq.cli.sample"
_LOOK_SECONDS: Final = 1.0
# A worker that ended sooner than this ended because of its code: starting it again before that changed is pointless.
_LIVED_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 40.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("module", metavar="MODULE", nargs="?", help="a dotted module or a .py file (default: a small sample)")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="where the servers keep their data (default: the project's .flowq, else .flowq here)"
    )
    parser.add_argument("--ephemeral", action="store_true", help="keep nothing: data go with the last user of the servers")
    parser.add_argument("--no-reload", action="store_true", help="don't restart the worker when a .py file changes")
    parser.add_argument("-c", "--concurrency", type=int, metavar="N", help="stages at once (default: 50)")
    parser.add_argument(
        "-q", "--queue", action="append", default=[], metavar="NAME[:SLOTS]", help="serve only this queue; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs everything until Ctrl-C. What was typed wrong is refused before anything starts."""
    output_of(arguments, ("text",))
    _refuse_other_servers(arguments)
    settings = settings_of(
        arguments,
        worker_concurrency=arguments.concurrency,
        worker_queues=dict(queue_slots(queue) for queue in arguments.queue) or None,
    )
    if arguments.module is not None:
        refuse_missing_module(arguments.module)
    return run_async(lambda: _dev(arguments, settings))


def _refuse_other_servers(arguments: argparse.Namespace) -> None:
    for option in ("url", "artifacts"):
        if getattr(arguments, option, None) is not None:
            raise UsageError(f"`flowq dev` runs servers of its own and takes no --{option}", "for other servers: `flowq worker`")


async def _dev(arguments: argparse.Namespace, settings: Settings) -> int:
    stop = asyncio.Event()
    _on_signals(stop.set)
    servers = await _Servers.start(arguments)
    worker = _Worker(arguments, servers, settings)

    def stop_or_hurry() -> None:
        if stop.is_set():
            worker.hurry()
        stop.set()

    _on_signals(stop_or_hurry)
    try:
        if not stop.is_set():
            worker.start()
            _tell(arguments, servers, settings)
            if arguments.module is None:
                await _submit_sample(servers.url, settings.namespace)
        return await _keep(arguments, servers, worker, stop)
    finally:
        await worker.stop()
        servers.attachment.close()


def _on_signals(act: Callable[[], None]) -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, act)


async def _keep(arguments: argparse.Namespace, servers: _Servers, worker: _Worker, stop: asyncio.Event) -> int:
    """Until told to stop: reloads the worker, and replaces servers that were killed."""
    watch = SourceWatch(_folders(arguments.module))
    while not stop.is_set():
        # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same moment as the event.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
        if stop.is_set():
            break
        await servers.replace_if_lost()
        if not arguments.no_reload and (changed := watch.changed()):
            note(f"flowq: {Path(changed[0]).name} changed, reloading")
            await worker.stop()
            worker.start()
        elif (end := worker.newly_ended()) is not None:
            if arguments.no_reload:
                note(f"flowq: the worker {end.how}")
                return end.code if end.code >= 0 else exits.ERROR
            if end.is_accident:
                note(f"flowq: the worker {end.how}, starting it again")
                worker.start()
            else:
                note(f"flowq: the worker {end.how}; it starts again when a .py file changes")
    note("flowq: stopping; a second Ctrl-C does not wait for running stages")
    return exits.OK


class _Servers:
    """The hold on the embedded servers.

    Attributes:
        directory: where they keep their data.
        attachment: the hold; replaced when the servers were killed.
    """

    def __init__(self, directory: Path, ephemeral: bool, attachment: Attachment) -> None:
        self.directory = directory
        self._ephemeral = ephemeral
        self.attachment = attachment

    @classmethod
    async def start(cls, arguments: argparse.Namespace) -> _Servers:
        """Starts the servers, or joins those that run."""
        from flowq.embedded import attach

        directory = _data_directory(arguments.data_dir)
        attachment = await asyncio.to_thread(attach, directory, ephemeral=arguments.ephemeral)
        return cls(directory, arguments.ephemeral, attachment)

    @property
    def url(self) -> str:
        """What other flowq processes reach these servers by."""
        return f"embedded:{self.directory}"

    async def replace_if_lost(self) -> None:
        """Attaches again when the keeper was killed."""
        if not self.attachment.is_lost:
            return
        from flowq.embedded import attach

        note("flowq: the servers are gone, starting them again")
        self.attachment.close()
        self.attachment = await asyncio.to_thread(attach, self.directory, ephemeral=self._ephemeral)


class _End(NamedTuple):
    """How the worker ended.

    Attributes:
        code: its exit code; negative: the signal that killed it.
        is_accident: whether its code and options can't be the reason, so that it may be started as it was.
    """

    code: int
    is_accident: bool

    @property
    def how(self) -> str:
        """The end of a sentence that begins with "the worker"."""
        return f"was killed by signal {-self.code}" if self.code < 0 else f"ended with exit code {self.code}"


class _Worker:
    """The worker process: a real `flowq worker`, so that what works here works in production."""

    def __init__(self, arguments: argparse.Namespace, servers: _Servers, settings: Settings) -> None:
        command = [sys.executable, "-m", "flowq", "worker", arguments.module or _SAMPLE, "--lifeline"]
        command += ["--namespace", settings.namespace]
        command += ["-c", str(arguments.concurrency)] if arguments.concurrency else []
        command += [word for queue in arguments.queue for word in ("-q", queue)]
        self._command = [*command, *(["--debug"] if getattr(arguments, "debug", False) else [])]
        self._process: subprocess.Popen[bytes] | None = None
        self._servers = servers
        self._is_artifacts_set = bool(settings.artifacts)
        self._started_at = 0.0

    def start(self) -> None:
        """Starts it. Its own process group: Ctrl-C must reach it once, from here, or it would stop without draining."""
        # Not what the user's shell and files say: `dev` serves this project's own servers and nothing else.
        own = {"FLOWQ_URL": self._servers.url}
        if self._is_artifacts_set:
            own["FLOWQ_ARTIFACTS"] = self._servers.attachment.artifacts
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=os.environ | own, process_group=0)
        self._started_at = time.monotonic()

    def newly_ended(self) -> _End | None:
        """How it ended, told once; None before that and after it."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        has_lived = time.monotonic() - self._started_at > _LIVED_SECONDS
        return _End(code, is_accident=has_lived and code != exits.USAGE)

    def hurry(self) -> None:
        """Running stages are handed back at once, when it was told to stop before."""
        if self._process is not None:
            note("flowq: running stages are handed back")
            # Not SIGTERM again: of two that wait for a process, the kernel keeps one.
            self._process.send_signal(signal.SIGINT)

    async def stop(self) -> None:
        """Ends it, the hard way when that takes too long."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await asyncio.to_thread(process.wait)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)


def _data_directory(named: str | None) -> Path:
    """The one that was named; else the project's own, which all commands find by themselves."""
    from flowq.embedded import find_project

    if named:
        return Path(named).absolute()
    return find_project(Path.cwd()) or Path.cwd() / ".flowq"


def _tell(arguments: argparse.Namespace, servers: _Servers, settings: Settings) -> None:
    attachment = servers.attachment
    kept = "gone when the last user leaves" if attachment.is_ephemeral else f"kept in {servers.directory}"
    reloads = "" if arguments.no_reload else ", reloads when a .py file changes"
    print(f"server     {attachment.url} ({kept})")
    print(f"artifacts  {attachment.artifacts}")
    print(f"worker     {arguments.module or _SAMPLE}{reloads}")
    target = f"{shlex.quote(arguments.module)}:PIPELINE -i key=value" if arguments.module else f"{_SAMPLE}:tour"
    flowq = _flowq(arguments, servers, settings)
    print(f"try        {flowq} submit {target} --follow")
    print(f"           {flowq} list, {flowq} inspect latest, {flowq} watch; Ctrl-C stops all of this", flush=True)


def _flowq(arguments: argparse.Namespace, servers: _Servers, settings: Settings) -> str:
    """How to call `flowq` here so that it finds these servers: with options where it would look elsewhere by itself."""
    from flowq.embedded import find_project

    words = ["flowq"]
    if settings.url or find_project(Path.cwd()) != servers.directory:
        words += ["-u", servers.url]
    if getattr(arguments, "namespace", None) is not None:
        words += ["-n", settings.namespace]
    if settings.artifacts:
        words += ["--artifacts", servers.attachment.artifacts]
    return shlex.join(words)


async def _submit_sample(url: str, namespace: str) -> None:
    """One flow at the start, so that there is something to look at."""
    from flowq.cli.sample import tour
    from flowq.engine.client.producer import FlowProducer

    async with FlowProducer(settings=Settings(url=url, namespace=namespace)) as producer:
        handle = await producer.add(tour())
    print(f"sample     flow {handle.id} was submitted", flush=True)


def _folders(module: str | None) -> list[Path]:
    """What a reload depends on: this folder, and the module's own where that is elsewhere."""
    here = Path.cwd()
    if module is not None and module.endswith(".py"):
        beside = Path(module).resolve().parent
        return [here] if beside.is_relative_to(here) else [here, beside]
    return [here]
