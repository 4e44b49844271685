"""The options by which commands choose flows, and what is shown before and after something is done to many of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, say, say_json, screen_for
from flowq.cli.usage import UsageError

if TYPE_CHECKING:
    from flowq.model.report import BulkReport

STATES = ("scheduled", "ready", "running", "suspended", "paused", "completed", "failed", "cancelled")
# What people call it.
_VERBS = {"prune": "remove"}
_WORDS = ("state", "pipeline", "tenant", "tag", "search", "cause")


def add_filters(
    parser: argparse.ArgumentParser, states: tuple[str, ...] = STATES, *, cause: bool = True, until: bool = True
) -> None:
    """Defines the options of a filter."""
    parser.add_argument("--state", choices=states, metavar="STATE", help=f"only flows in this state: {', '.join(states)}")
    parser.add_argument("--pipeline", metavar="NAME", help="only flows of this pipeline")
    parser.add_argument("--tenant", metavar="NAME", help="only flows of this tenant")
    parser.add_argument("--tag", metavar="WORD", help="only flows with this tag")
    parser.add_argument("--since", metavar="TIME", help="only flows added in the last 90s, 5m, 2h, 7d, or since 2030-01-31T02:00")
    if until:
        parser.add_argument("--until", metavar="TIME", help="only flows added before that: so long ago, or a moment")
    parser.add_argument("--search", metavar="TEXT", help="only flows whose id contains this")
    if cause:
        parser.add_argument("--cause", metavar="PATTERN", help="only flows that failed for this, such as 'NoSuchBucket*'")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Defines the option that changes nothing."""
    parser.add_argument("--dry-run", action="store_true", help="change nothing; show which flows are meant")


def filter_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given, as the producer's methods take it."""
    given = {word: value for word in _WORDS if (value := getattr(arguments, word, None)) is not None}
    for option in ("since", "until"):
        if (moment := ago(getattr(arguments, option, None), f"--{option}")) is not None:
            given[f"{option}_ms"] = moment
    return given


def is_filtered(arguments: argparse.Namespace) -> bool:
    """Whether one of the options of a filter was given."""
    return any(getattr(arguments, word, None) is not None for word in (*_WORDS, "since", "until"))


def refuse_flow_and_filter(arguments: argparse.Namespace) -> bool:
    """Whether many flows are meant; refuses one flow and a filter together, and neither."""
    many = is_filtered(arguments)
    if (arguments.flow_id is not None) == many:
        raise UsageError(
            "a flow and a filter were given" if many else "no flow was given",
            "give FLOW_ID, or a filter such as --pipeline NAME",
        )
    if arguments.flow_id is not None and arguments.dry_run:
        raise UsageError("--dry-run goes with a filter", "`flowq inspect` shows what there is to do in one flow")
    return many


async def act_on_many(arguments: argparse.Namespace, act: Callable[[bool], Awaitable[BulkReport]]) -> int:
    """Shows what would be done; does it once it is allowed; shows what was done.

    Args:
        arguments: with `dry_run` and `yes`.
        act: called with whether it is a dry run.

    Raises:
        UsageError: it would change something, nobody can be asked, and there is no `--yes`.
    """
    if arguments.dry_run or not arguments.yes:
        preview = await act(True)
        if arguments.dry_run:
            return _show(arguments, preview)
        if preview.matched:
            _show_text(arguments, preview)
            _refuse_without_consent(preview)
    report = await act(False)
    code = _show(arguments, report)
    return exits.ERROR if report.errors else code


def _refuse_without_consent(preview: BulkReport) -> None:
    deed = f"{_VERBS.get(preview.verb, preview.verb)} {preview.matched:,} flow{'' if preview.matched == 1 else 's'}"
    if not sys.stdin.isatty():
        raise UsageError(
            f"this would {deed}, and there is no terminal to ask",
            "look at --dry-run, then give --yes",
        )
    print(f"{deed}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was changed", "answer y, or give --yes")


def _show(arguments: argparse.Namespace, report: BulkReport) -> int:
    if output_of(arguments) == "text":
        _show_text(arguments, report)
    else:
        say_json(arguments, "report", report)
    return exits.OK


def _show_text(arguments: argparse.Namespace, report: BulkReport) -> None:
    from flowq.cli.render.many import bulk_errors, bulk_line, bulk_table

    screen = screen_for(arguments)
    if report.is_dry_run and report.matched:
        say(bulk_table(report, int(time.time() * 1000), screen), screen)
    say(bulk_errors(report, screen), screen)
    note(bulk_line(report))


def ago(text: str | None, option: str) -> float | None:
    """The moment so long ago, or the one that is given, milliseconds since 1970; None for None.

    Raises:
        InvalidValue, UsageError: it is no duration, or no moment.
    """
    from flowq.cli.moments import duration_or_moment
    from flowq.model.duration import to_ms

    match duration_or_moment(text, option):
        case None:
            return None
        case str(duration):
            return time.time() * 1000 - to_ms(duration, option, least_ms=1)
        case moment:
            return moment.timestamp() * 1000
