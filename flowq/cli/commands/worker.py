"""`flowq worker MODULE…`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from flowq.cli import exits
from flowq.cli.modules import refuse_missing_module
from flowq.cli.session import output_of, run_async, settings_of
from flowq.model.names import check_name, checked_room
from flowq.model.setting_values import queue_slots
from flowq.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("modules", metavar="MODULE", nargs="+", help="a dotted module or a .py file that defines stages")
    parser.add_argument("-c", "--concurrency", type=int, metavar="N", help="stages at once in one process (default: 50)")
    parser.add_argument(
        "-q",
        "--queue",
        action="append",
        default=[],
        metavar="NAME[:SLOTS]",
        help="serve this queue, with so many slots on this host; may be repeated (default: all)",
    )
    parser.add_argument(
        "--has", default="", metavar="NAME=N,…", help="what this host has of what stages need, such as gpu=1,vram=40"
    )
    parser.add_argument("--processes", type=int, metavar="N", help="child processes (default: 1)")
    parser.add_argument("--burst", action="store_true", help="stop when there is nothing left to do")
    parser.add_argument("--idle-timeout", metavar="DURATION", help="stop after this long without work, 100ms at least")
    parser.add_argument(
        "--drain-timeout", metavar="DURATION", help="how long running stages may go on after SIGTERM (default: 30s)"
    )
    parser.add_argument("--health-port", type=int, metavar="PORT", help="serve /livez, /readyz and /backlog on this port")
    parser.add_argument("--health-host", metavar="ADDRESS", help="the address on which they are served (default: 127.0.0.1)")
    parser.add_argument("--name", default="", help="the worker's name in `inspect` (default: the host's)")
    # For `flowq dev`: stop when stdin ends, so that a killed parent leaves no worker behind.
    parser.add_argument("--lifeline", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs stages until SIGTERM or Ctrl-C; running stages may finish first."""
    from flowq.engine.worker.console import log_to_stderr

    output_of(arguments, ("text",))
    settings = worker_settings(arguments)
    if arguments.name:
        check_name(arguments.name, "--name")
    _has(arguments.has)
    for module in arguments.modules:
        refuse_missing_module(module)
    level = logging.DEBUG if getattr(arguments, "debug", False) else logging.INFO
    log_to_stderr(logging.WARNING)
    logging.getLogger("flowq").setLevel(level)
    if arguments.lifeline:
        threading.Thread(target=_stop_when_stdin_ends, daemon=True).start()
    return run_async(lambda: _work(arguments, settings))


def worker_settings(arguments: argparse.Namespace) -> Settings:
    """The settings with the worker's options, checked."""
    return settings_of(
        arguments,
        worker_concurrency=arguments.concurrency,
        worker_processes=arguments.processes,
        worker_queues=dict(queue_slots(queue) for queue in arguments.queue) or None,
        worker_idle_timeout=arguments.idle_timeout,
        worker_drain_timeout=arguments.drain_timeout,
        worker_health_port=arguments.health_port,
        worker_health_host=arguments.health_host,
    )


async def _work(arguments: argparse.Namespace, settings: Settings) -> int:
    from flowq.engine.worker.supervisor import Supervisor, WorkerOptions

    worker = settings.worker
    options = WorkerOptions(
        modules=tuple(arguments.modules),
        concurrency=worker.concurrency,
        queues=dict(worker.queues),
        processes=worker.processes,
        burst=arguments.burst,
        idle_timeout_ms=worker.idle_timeout_ms,
        drain_timeout_ms=worker.drain_timeout_ms,
        health_port=worker.health_port,
        health_host=worker.health_host,
        name=arguments.name,
        has=_has(arguments.has),
    )
    await Supervisor(settings, options).run()
    return exits.OK


def _has(text: str) -> dict[str, int]:
    pairs = (part.partition("=") for part in text.replace(" ", "").split(",") if part)
    return dict(checked_room({name: int(amount) if amount.isdecimal() else amount for name, _, amount in pairs}, "--has"))


def _stop_when_stdin_ends() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
