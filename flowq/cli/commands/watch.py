"""`flowq watch [FLOW_ID]`."""

from __future__ import annotations

import argparse
import sys

from flowq.cli import exits
from flowq.cli.session import add_flow_id, found, output_of, producer_of, run_async, say_json, screen_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser, optional=True)
    parser.add_argument("--timeout", metavar="DURATION", help="give up watching after this long; exit code 124")


def run(arguments: argparse.Namespace) -> int:
    """Follows the flow until it ends; the exit code tells how it did."""
    output_of(arguments)
    return run_async(lambda: _watch(arguments))


async def _watch(arguments: argparse.Namespace) -> int:
    from flowq.cli.following import follow
    from flowq.cli.waiting import timeout_seconds

    output = output_of(arguments)
    async with producer_of(arguments) as producer:
        handle = producer.flow(await found(producer, arguments))
        snapshot = await follow(handle, output, sys.stdout, screen_for(arguments), timeout_seconds(arguments))
    if output != "text":
        say_json(arguments, "flow", snapshot)
    return exits.OF_STATE.get(snapshot.state, exits.ERROR)
