"""`flowq cancel FLOW_ID`, and of many flows by a filter."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.filters import act_on_many, add_dry_run, add_filters, filter_of, refuse_flow_and_filter
from flowq.cli.report import note
from flowq.cli.session import add_flow_id, add_yes, found, output_of, producer_of, run_async, say_json
from flowq.errors import FlowNotFound


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser, or_filter=True)
    add_filters(parser, ("scheduled", "ready", "running", "suspended", "paused"), cause=False)
    add_dry_run(parser)
    parser.add_argument("--reason", default="", metavar="TEXT", help="why; shown by `inspect`")
    add_yes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Cancels one flow: stages that run are told, those that wait never start."""
    output_of(arguments)
    if refuse_flow_and_filter(arguments):
        return run_async(lambda: _cancel_many(arguments))
    return run_async(lambda: _cancel(arguments))


async def _cancel_many(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        wanted = filter_of(arguments)
        return await act_on_many(arguments, lambda dry_run: producer.cancel(**wanted, reason=arguments.reason, dry_run=dry_run))


async def _cancel(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        flow_id = await found(producer, arguments, changes=True)
        handle = producer.flow(flow_id)
        is_cancelled = await handle.cancel(arguments.reason)
        try:
            state = (await handle.inspect()).state
        except FlowNotFound:  # of a schedule that somebody has run, and of which it was not made yet
            if not is_cancelled:
                raise
            state = "cancelled"
    if output_of(arguments) == "text":
        note(f"{flow_id} is {state}" if state != "running" else f"{flow_id} is being cancelled: its running stages were told")
    else:
        say_json(arguments, "cancelled", {"id": flow_id, "state": state})
    return exits.OK
