"""`flowq dev [MODULE]`: the embedded servers and a worker that reloads, in one process tree with one Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import run_async
from flowq.cli.source_watch import SourceWatch

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
    parser.add_argument("--data-dir", metavar="DIR", help="where the servers keep their data (default: .flowq)")
    parser.add_argument("--ephemeral", action="store_true", help="keep nothing: data go with the last user of the servers")
    parser.add_argument("--no-reload", action="store_true", help="don't restart the worker when a .py file changes")
    parser.add_argument("-c", "--concurrency", type=int, metavar="N", help="stages at once (default: 50)")
    parser.add_argument(
        "-q", "--queue", action="append", default=[], metavar="NAME[:SLOTS]", help="serve only this queue; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs everything until Ctrl-C."""
    return run_async(lambda: _dev(arguments))


async def _dev(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    servers = await _Servers.start(arguments)
    worker = _Worker(arguments, servers.url)
    try:
        worker.start()
        _tell(arguments, servers)
        if arguments.module is None:
            await _submit_sample(servers.url)
        return await _keep(arguments, servers, worker, stop)
    finally:
        await worker.stop()
        servers.attachment.close()


async def _keep(arguments: argparse.Namespace, servers: _Servers, worker: _Worker, stop: asyncio.Event) -> int:
    """Until told to stop: reloads the worker, and replaces servers that were killed."""
    watch = SourceWatch(_folders(arguments.module))
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
        if stop.is_set():
            break
        await servers.replace_if_lost()
        code = worker.ended()
        if arguments.no_reload:
            if code is not None:
                return code
            continue
        if changed := watch.changed():
            note(f"flowq: {Path(changed[0]).name} changed, reloading")
            await worker.stop()
            worker.start()
        elif code is not None and worker.may_restart():
            worker.start()
    note("flowq: stopping")
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


class _Worker:
    """The worker process: a real `flowq worker`, so that what works here works in production."""

    def __init__(self, arguments: argparse.Namespace, url: str) -> None:
        command = [sys.executable, "-m", "flowq", "worker", arguments.module or _SAMPLE, "--lifeline"]
        command += ["-c", str(arguments.concurrency)] if arguments.concurrency else []
        command += [word for queue in arguments.queue for word in ("-q", queue)]
        self._command = [*command, *(["--debug"] if getattr(arguments, "debug", False) else [])]
        self._process: subprocess.Popen[bytes] | None = None
        # Not FLOWQ_URL of the user's shell: `dev` serves this project's own servers and nothing else.
        self._environment = {**os.environ, "FLOWQ_URL": url}
        self._environment.pop("FLOWQ_ARTIFACTS", None)
        self._started_at = 0.0
        self._told = False

    def start(self) -> None:
        """Starts it. Its own process group: Ctrl-C must reach it once, from here, or it would stop without draining."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, env=self._environment, process_group=0)
        self._started_at = time.monotonic()
        self._told = False

    def ended(self) -> int | None:
        """Its exit code, said once; None while it runs."""
        code = self._process.poll() if self._process else 0
        if code is not None and not self._told:
            self._told = True
            note(f"flowq: the worker ended with exit code {code}; it starts again when a file changes")
        return code

    def may_restart(self) -> bool:
        """Whether it had run long enough for its end to be an accident and not its code's fault."""
        return time.monotonic() - self._started_at > _LIVED_SECONDS

    async def stop(self) -> None:
        """SIGTERM, so that running stages may finish; the hard way when that takes too long."""
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


def _tell(arguments: argparse.Namespace, servers: _Servers) -> None:
    attachment = servers.attachment
    kept = "gone when the last user leaves" if attachment.is_ephemeral else f"kept in {servers.directory}"
    reloads = "" if arguments.no_reload else ", reloads when a .py file changes"
    print(f"server     {attachment.url} ({kept})")
    print(f"artifacts  {attachment.artifacts}")
    print(f"worker     {arguments.module or _SAMPLE}{reloads}")
    target = f"{arguments.module}:PIPELINE -i key=value" if arguments.module else f"{_SAMPLE}:tour"
    print(f"try        flowq submit {target} --follow")
    print("           flowq list, flowq inspect latest, flowq watch; Ctrl-C stops all of this", flush=True)
    if attachment.notice:
        note(f"flowq: {attachment.notice}")


async def _submit_sample(url: str) -> None:
    """One flow at the start, so that there is something to look at."""
    from flowq.cli.sample import tour
    from flowq.engine.producer import FlowProducer
    from flowq.settings import Settings

    async with FlowProducer(settings=Settings(url=url)) as producer:
        handle = await producer.add(tour())
    print(f"sample     flow {handle.id} was submitted", flush=True)


def _folders(module: str | None) -> list[Path]:
    """What a reload depends on: this folder, and the module's own where that is elsewhere."""
    here = Path.cwd()
    if module is not None and module.endswith(".py"):
        beside = Path(module).resolve().parent
        return [here] if beside.is_relative_to(here) else [here, beside]
    return [here]
