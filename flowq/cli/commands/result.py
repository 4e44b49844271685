"""`flowq result FLOW_ID`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.session import add_flow_id, found, output_of, producer_of, run_async, say_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser)
    parser.add_argument(
        "--timeout", metavar="DURATION", help="how long to wait for the end, such as 90s; 0: not at all (default: for ever)"
    )
    parser.add_argument("--run", type=int, metavar="N", help="the result of an earlier run, before a retry; 1 is the first")


def run(arguments: argparse.Namespace) -> int:
    """Waits for the flow's end and prints its result as JSON; the exit code tells how it ended."""
    output_of(arguments)
    return run_async(lambda: _result(arguments))


async def _result(arguments: argparse.Namespace) -> int:
    from flowq.cli.waiting import result_of, timeout_seconds

    async with producer_of(arguments) as producer:
        flow_id = await found(producer, arguments)
        result = await result_of(producer.flow(flow_id), timeout_seconds(arguments), arguments.run)
    if output_of(arguments) == "text":
        from flowq.cli.documents import json_text

        print(json_text(result, pretty=True))
    else:
        say_json(arguments, "result", {"id": flow_id, "result": result})
    return exits.OK
