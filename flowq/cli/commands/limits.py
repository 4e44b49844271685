"""`flowq limits`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError

if TYPE_CHECKING:
    from flowq.store.limits import LimitState


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("action", nargs="?", choices=("list", "set", "remove"), default="list", help="what to do (default: list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the limit; `queue:gpu` and `tenant:acme` hold by themselves")
    parser.add_argument(
        "--rate", action="append", default=[], metavar="WHAT=N/PERIOD", help="such as requests=100/m or tokens=2000/m; repeatable"
    )
    parser.add_argument("--concurrency", type=int, metavar="N", help="so many at once")


def run(arguments: argparse.Namespace) -> int:
    """Shows all limits, or sets or removes one."""
    output_of(arguments)
    if (arguments.action == "list") == (arguments.name is not None):
        raise UsageError(
            f"limits {arguments.action} {'takes no' if arguments.name else 'needs a'} NAME", "see `flowq limits --help`"
        )
    rates = _rates(arguments.rate)
    if arguments.action != "set" and (rates or arguments.concurrency is not None):
        raise UsageError("--rate and --concurrency are for `limits set`", "see `flowq limits --help`")
    if arguments.action == "set" and not rates and arguments.concurrency is None:
        raise UsageError(f"limit {arguments.name} has neither --rate nor --concurrency", "give one of them, or both")
    if rates and arguments.name.startswith(("queue:", "tenant:")):
        raise UsageError(f"limit {arguments.name} can't have a --rate", "a queue or tenant is limited by --concurrency only")
    return run_async(lambda: _limits(arguments, rates))


def _rates(texts: Sequence[str]) -> dict[str, str]:
    rates: dict[str, str] = {}
    for what, rate in map(_rate, texts):
        if what in rates:
            raise UsageError(f"--rate says twice how many {what} there may be: {rates[what]} and {rate}", "give one of them")
        rates[what] = rate
    return rates


def _rate(text: str) -> tuple[str, str]:
    what, sign, rate = text.partition("=")
    return (what, rate) if sign else ("requests", what)


async def _limits(arguments: argparse.Namespace, rates: dict[str, str]) -> int:
    async with producer_of(arguments) as producer:
        if arguments.action == "set":
            await producer.set_limit(arguments.name, rate=rates, concurrency=arguments.concurrency)
        elif arguments.action == "remove" and not await producer.remove_limit(arguments.name):
            note(f"there is no limit {arguments.name}")
            return exits.NOT_FOUND
        limits = [one for one in await producer.limits() if arguments.name in (None, one.name)]
    if output_of(arguments) != "text":
        say_json(arguments, "limits", limits)
    elif arguments.action == "remove":
        note(f"limit {arguments.name} is removed")
    elif not limits:
        note("no limits: `flowq limits set NAME --rate requests=100/m` makes one")
    else:
        from flowq.cli.render.ink import span
        from flowq.cli.render.table import table

        screen = screen_for(arguments)
        rows = [[span(cell) for cell in _cells(one)] for one in limits]
        say(table(["limit", "held", "waiting", "next", "allows"], rows, screen), screen)
    return exits.OK


def _cells(one: LimitState) -> list[str]:
    return [one.name, str(one.held or ""), str(one.waiting or ""), _next(one.next_at), str(one.rule)]


def _next(at_ms: int | None) -> str:
    from flowq.cli.render.sizes import shown_moment

    return shown_moment(at_ms) if at_ms else ""
