"""`flowq dead list|show|retry|discard`."""

from __future__ import annotations

import argparse
import time

from flowq.cli import exits
from flowq.cli.filters import act_on_many, add_dry_run, filter_of
from flowq.cli.report import note
from flowq.cli.session import add_yes, output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument(
        "action",
        choices=("list", "show", "retry", "discard"),
        help="list the groups; show the flows of one; retry them; or remove them for ever (hooks go with their flow)",
    )
    parser.add_argument("key", metavar="KEY", nargs="?", help="the group, as `list` shows it")
    parser.add_argument("--pipeline", metavar="NAME", help="only flows of this pipeline")
    parser.add_argument("--tenant", metavar="NAME", help="only flows of this tenant")
    parser.add_argument("--tag", metavar="WORD", help="only flows with this tag")
    parser.add_argument("--since", metavar="TIME", help="only flows added in the last 90s, 5m, 2h, 7d, or since 2030-01-31T02:00")
    add_dry_run(parser)
    add_yes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows failed flows by what made them fail, and acts on one group."""
    output_of(arguments)
    if (arguments.key is None) != (arguments.action == "list"):
        raise UsageError(
            "`dead list` takes no KEY" if arguments.key else f"`dead {arguments.action}` needs a KEY",
            "`flowq dead list` shows the keys",
        )
    return run_async(lambda: _list(arguments) if arguments.action == "list" else _act(arguments))


async def _list(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        groups = await producer.dead(**filter_of(arguments))
    if output_of(arguments) != "text":
        say_json(arguments, "dead", groups)
    elif groups:
        from flowq.cli.render.many import dead_table

        screen = screen_for(arguments)
        say(dead_table(groups, screen), screen)
    else:
        note("no failed flows")
    return exits.OK


async def _act(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        wanted = filter_of(arguments)
        known = await producer.retry(**wanted, dead=arguments.key, dry_run=True)
        if not known.matched:
            note(f"no failed flow is in group {arguments.key}: `flowq dead list` shows the keys")
            return exits.NOT_FOUND
        if arguments.action == "retry":
            return await act_on_many(arguments, lambda dry_run: producer.retry(**wanted, dead=arguments.key, dry_run=dry_run))
        if arguments.action == "discard":
            return await act_on_many(
                arguments, lambda dry_run: producer.prune(**wanted, state="failed", dead=arguments.key, dry_run=dry_run)
            )
    if output_of(arguments) != "text":
        say_json(arguments, "flows", known.flows)
        return exits.OK
    from flowq.cli.render.listing import listing

    screen = screen_for(arguments)
    say(listing(known.flows, int(time.time() * 1000), screen), screen)
    return exits.OK
