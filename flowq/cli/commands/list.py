"""`flowq list`."""

from __future__ import annotations

import argparse
import time

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError

_STATES = ("ready", "running", "completed", "failed", "cancelled")
_LIMIT_MAX = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("--state", choices=_STATES, metavar="STATE", help=f"only flows in this state: {', '.join(_STATES)}")
    parser.add_argument("--pipeline", metavar="NAME", help="only flows of this pipeline")
    parser.add_argument("--tenant", metavar="NAME", help="only flows of this tenant")
    parser.add_argument("--tag", metavar="WORD", help="only flows with this tag")
    parser.add_argument("--since", metavar="DURATION", help="only flows added in the last 90s, 5m, 2h, 7d")
    parser.add_argument("--search", metavar="TEXT", help="only flows whose id contains this")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most this many, newest first (default: 50)")


def run(arguments: argparse.Namespace) -> int:
    """Lists flows, the newest first."""
    output_of(arguments)
    if not 1 <= arguments.limit <= _LIMIT_MAX:
        raise UsageError(f"--limit is {arguments.limit}", f"expected a number from 1 to {_LIMIT_MAX}")
    return run_async(lambda: _list(arguments))


async def _list(arguments: argparse.Namespace) -> int:
    from flowq.model.duration import to_ms

    since_ms = None
    if arguments.since is not None:
        since_ms = int(time.time() * 1000) - to_ms(arguments.since, "--since", least_ms=1)
    async with producer_of(arguments) as producer:
        flows = await producer.list(
            state=arguments.state,
            pipeline=arguments.pipeline,
            tenant=arguments.tenant,
            tag=arguments.tag,
            since_ms=since_ms,
            search=arguments.search,
            limit=arguments.limit,
        )
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
    if len(flows) == arguments.limit:
        note(f"the newest {arguments.limit}: --limit shows more")
    return exits.OK
