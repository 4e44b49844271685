"""`flowq bench`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, run_async, say, say_json, screen_for, settings_of
from flowq.cli.usage import UsageError

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
    """Measures the server in a namespace of its own, and removes what it wrote."""
    output_of(arguments)
    for name in ("flows", "alone"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name} is {getattr(arguments, name)}", "expected a whole number from 1")
    return run_async(lambda: _bench(arguments))


async def _bench(arguments: argparse.Namespace) -> int:
    from flowq.cli.measuring import measure

    settings = settings_of(arguments)
    note(f"flowq: {arguments.alone:,} chains of four stages one by one, then {arguments.flows:,} at once; other work disturbs it")
    found = await measure(settings, flows=arguments.flows, alone=arguments.alone, concurrency=arguments.concurrency)
    if output_of(arguments) == "text":
        _show(arguments, found)
    else:
        say_json(arguments, "bench", found)
    return exits.OK


def _show(arguments: argparse.Namespace, found: Measured) -> None:
    from flowq.cli.render.ink import span
    from flowq.cli.render.table import table

    shown = [
        ("submit", found.submit, "flows/s"),
        (f"run, {found.concurrency} at once", found.run, "stages/s"),
        ("submit and run", found.submit_and_run, "flows/s"),
        ("one alone, median", found.alone_p50_ms, "ms"),
        ("one alone, 99 of 100 within", found.alone_p99_ms, "ms"),
        ("memory, waiting", found.waiting_bytes, "bytes/flow"),
        ("memory, completed", found.completed_bytes, "bytes/flow"),
    ]
    screen = screen_for(arguments)
    rows = [[span(name), span(_number(value)), span(unit)] for name, value, unit in shown if value is not None]
    say(table(["chains of four", "", ""], rows, screen), screen)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
