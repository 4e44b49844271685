"""`flowq check MODULE…`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for

if TYPE_CHECKING:
    from flowq.model.release import ReleaseReport


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("modules", metavar="MODULE", nargs="+", help="what the release's workers will load")
    parser.add_argument(
        "-q",
        "--queue",
        action="append",
        default=[],
        metavar="NAME",
        help="a queue they will serve; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    """Compares a release with the flows in flight; exit code 1 if it could not run some of their stages."""
    output_of(arguments)
    return run_async(lambda: _check(arguments))


async def _check(arguments: argparse.Namespace) -> int:
    from flowq.engine.code.modules import load_stages

    stages = load_stages(tuple(arguments.modules))
    async with producer_of(arguments) as producer:
        report = await producer.check(stages=stages.values(), queues=arguments.queue)
    if output_of(arguments) == "text":
        _show(arguments, report)
    else:
        say_json(arguments, "check", report)
    return exits.ERROR if report.strandings else exits.OK


def _show(arguments: argparse.Namespace, report: ReleaseReport) -> None:
    from flowq.cli.render.ink import Span, span
    from flowq.cli.render.sizes import shown_stages
    from flowq.cli.render.table import table

    flows = "1 flow" if report.flows == 1 else f"{report.flows:,} flows"
    if not report.strandings:
        note(f"{flows} in flight, {shown_stages(report.stages)} to run: nothing would strand")
        return
    screen = screen_for(arguments)
    rows = [
        [span(one.pipeline), span(one.stage), Span(f"{one.flows:,}"), span(one.examples[0]), span(one.sentence, "bad")]
        for one in report.strandings
    ]
    say(table(["pipeline", "stage", "flows", "such as", "problem"], rows, screen), screen)
    note(f"{flows} in flight: keep workers of the earlier release until these have ended")
