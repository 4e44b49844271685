"""`flowq usage`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("--pipeline", metavar="NAME", help="only what flows of this pipeline used")
    parser.add_argument("--tenant", metavar="NAME", help="only what this tenant's flows used")
    parser.add_argument("--days", type=int, default=30, metavar="N", help="how many days back, today included (default: 30)")


def run(arguments: argparse.Namespace) -> int:
    """Shows what stages told with `context().usage(…)`, by day, pipeline and tenant."""
    output_of(arguments)
    return run_async(lambda: _usage(arguments))


async def _usage(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        found = await producer.usage(days=arguments.days, pipeline=arguments.pipeline, tenant=arguments.tenant)
    if output_of(arguments) != "text":
        say_json(arguments, "usage", found)
    elif found:
        from flowq.cli.render.logs import usage_table

        screen = screen_for(arguments)
        say(usage_table(found, screen), screen)
    else:
        note("nothing was metered")
    return exits.OK
