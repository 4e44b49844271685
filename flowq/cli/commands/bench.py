"""`flowq bench`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from msgspec import structs

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, run_async, say, say_json, screen_for, settings_of
from flowq.cli.usage import UsageError
from flowq.model.names import NAMESPACE_LENGTH_MAX
from flowq.model.setting_values import CONCURRENCY_MAX

if TYPE_CHECKING:
    from flowq.cli.measuring import Measured


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument(
        "--flows", type=int, default=2_000, metavar="N", help="chains of four that are added and run in bulk (2000)"
    )
    parser.add_argument("--alone", type=int, default=200, metavar="N", help="chains that are run one after the other (200)")
    parser.add_argument("-c", "--concurrency", type=int, default=50, metavar="N", help="how many stages run at once (50)")


def run(arguments: argparse.Namespace) -> int:
    """Measures the server in a namespace within the user's, and removes that, also after Ctrl-C and SIGTERM."""
    output_of(arguments)
    for name in ("flows", "alone"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} is {getattr(arguments, name)}", "expected a whole number from 1")
    if not 1 <= arguments.concurrency <= CONCURRENCY_MAX:
        raise UsageError(f"--concurrency is {arguments.concurrency}", f"expected a whole number from 1 to {CONCURRENCY_MAX:,}")
    if (code := run_async(lambda: _until_told(_bench(arguments)))) == exits.INTERRUPTED:
        raise KeyboardInterrupt
    return code


async def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM lets it clean up, as Ctrl-C does; the second one ends it at once."""
    loop, working, is_told = asyncio.get_running_loop(), asyncio.ensure_future(work), False

    def tell() -> None:
        nonlocal is_told
        is_told = True
        loop.remove_signal_handler(signal.SIGTERM)
        working.cancel()

    with contextlib.suppress(ValueError, RuntimeError):  # in another thread than the first no signals arrive
        loop.add_signal_handler(signal.SIGTERM, tell)
    try:
        return await working
    except asyncio.CancelledError:
        if not is_told:
            raise
        return exits.INTERRUPTED
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _bench(arguments: argparse.Namespace) -> int:
    from flowq.cli.measuring import measure

    settings = settings_of(arguments)
    settings = structs.replace(settings, namespace=_namespace_within(settings.namespace))
    if not getattr(arguments, "debug", False):
        logging.getLogger("flowq").setLevel(logging.CRITICAL)  # what went wrong is said once
    one_by_one = "1 chain of four stages" if arguments.alone == 1 else f"{arguments.alone:,} chains of four stages one by one"
    note(f"flowq: {one_by_one}, then {arguments.flows:,} at once, in the namespace {settings.namespace}; other work disturbs it")
    found = await measure(settings, flows=arguments.flows, alone=arguments.alone, concurrency=arguments.concurrency)
    if output_of(arguments) == "text":
        _show(arguments, found)
    else:
        say_json(arguments, "bench", found)
    return exits.OK


def _namespace_within(namespace: str) -> str:
    """One of its own that begins with the user's: who may use that may use this. So a long one is not cut."""
    own = f"{namespace}-bench{secrets.token_hex(4)}"
    if (over := len(own) - NAMESPACE_LENGTH_MAX) > 0:
        problem = f"the namespace {namespace!r} leaves no room for one that begins with it"
        raise UsageError(problem, f"give one of at most {len(namespace) - over} characters")
    return own


def _show(arguments: argparse.Namespace, found: Measured) -> None:
    from flowq.cli.render.ink import span
    from flowq.cli.render.table import table

    shown = [
        ("submit", found.submit, "flows/s"),
        (f"run, {found.concurrency} at once", found.run, "stages/s"),
        ("submit and run", found.submit_and_run, "flows/s"),
        ("one alone, median", found.alone_p50_ms, "ms"),
        ("one alone, 99 of 100 within", found.alone_p99_ms, "ms"),
        ("one alone, slowest", found.alone_max_ms, "ms"),
        ("memory, waiting", found.waiting_bytes, "bytes/flow"),
        ("memory, completed", found.completed_bytes, "bytes/flow"),
    ]
    screen = screen_for(arguments)
    rows = [[span(name), span(_number(value)), span(unit)] for name, value, unit in shown if value is not None]
    say(table(["chains of four", "", ""], rows, screen), screen)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
