"""`flowq prune`."""

from __future__ import annotations

import argparse

from flowq.cli.filters import act_on_many, add_dry_run, add_filters, filter_of, is_filtered
from flowq.cli.session import add_yes, output_of, producer_of, run_async
from flowq.cli.usage import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("--older-than", metavar="DURATION", help="only flows that ended so long ago, such as 30d")
    add_filters(parser, ("completed", "failed", "cancelled"), until=False)
    add_dry_run(parser)
    add_yes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Removes flows that have ended; workers do so by themselves when the retention is over."""
    output_of(arguments)
    if arguments.older_than is None and not is_filtered(arguments):
        raise UsageError("no filter was given", "give one, such as --older-than 30d or --state failed")
    return run_async(lambda: _prune(arguments))


async def _prune(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        wanted = filter_of(arguments)
        return await act_on_many(
            arguments, lambda dry_run: producer.prune(older_than=arguments.older_than, **wanted, dry_run=dry_run)
        )
