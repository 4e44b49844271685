"""`flowq tenants`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("action", nargs="?", choices=("list", "weight"), default="list", help="what to do (default: list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the tenant")
    parser.add_argument("weight", nargs="?", type=float, metavar="WEIGHT", help="turns for one turn of others; 1 is the default")


def run(arguments: argparse.Namespace) -> int:
    """Shows the weights that differ from 1, or sets one."""
    output_of(arguments)
    if (arguments.action == "weight") != (arguments.weight is not None):
        raise UsageError("a weight is set with `tenants weight NAME WEIGHT`", "see `flowq tenants --help`")
    return run_async(lambda: _tenants(arguments))


async def _tenants(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        if arguments.action == "weight":
            await producer.set_weight(arguments.name, arguments.weight)
        weights = await producer.weights()
    if output_of(arguments) != "text":
        say_json(arguments, "tenants", {name: {"weight": weight} for name, weight in weights.items()})
    elif not weights:
        note("all tenants have weight 1")
    else:
        from flowq.cli.render.ink import span
        from flowq.cli.render.table import table

        screen = screen_for(arguments)
        say(table(["tenant", "weight"], [[span(name), span(f"{weight:g}")] for name, weight in weights.items()], screen), screen)
    return exits.OK
