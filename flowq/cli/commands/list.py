"""`flowq list`."""

from __future__ import annotations

import argparse
import time

from flowq.cli import exits
from flowq.cli.filters import add_filters, filter_of
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError

_LIMIT_MAX = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_filters(parser)
    parser.add_argument("--artifact", metavar="KEY", help="only the flow that wrote the artifact of this key or URL")
    parser.add_argument("--after", metavar="FLOW_ID", help="go on behind this flow, the last of the page before")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most this many, newest first (default: 50)")


def run(arguments: argparse.Namespace) -> int:
    """Lists flows, the newest first."""
    output_of(arguments)
    if not 1 <= arguments.limit <= _LIMIT_MAX:
        raise UsageError(f"--limit is {arguments.limit}", f"expected a number from 1 to {_LIMIT_MAX}")
    return run_async(lambda: _list(arguments))


async def _list(arguments: argparse.Namespace) -> int:
    wanted = filter_of(arguments)
    async with producer_of(arguments) as producer:
        flows = await producer.list(**wanted, limit=arguments.limit, after=arguments.after, artifact=arguments.artifact)
    match output_of(arguments):
        case "json":
            say_json(arguments, "flows", flows)
        case "jsonl":
            for flow in flows:
                say_json(arguments, "flow", flow)
        case _ if flows:
            from flowq.cli.render.listing import listing

            screen = screen_for(arguments)
            say(listing(flows, int(time.time() * 1000), screen), screen)
        case _:
            note("no flows")
    if len(flows) == arguments.limit and arguments.artifact is None:
        note(f"the newest {arguments.limit}: --limit shows more, or --after {flows[-1].id}")
    return exits.OK
