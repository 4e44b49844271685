"""`flowq schedule list|add|remove|pause|resume|run`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowq.engine.client.producer import FlowProducer
    from flowq.model.schedule import ScheduleSnapshot

_DONE = {"remove": "removed", "pause": "paused", "resume": "resumed"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("action", choices=("list", "add", "remove", "pause", "resume", "run"), help="what to do")
    parser.add_argument("id", metavar="ID", nargs="?", help="the schedule; for all but `list`")
    parser.add_argument("pipeline", metavar="MODULE:PIPELINE", nargs="?", help="what it runs; for `add`")
    parser.add_argument("--cron", metavar="TEXT", help="add: minute, hour, day, month and weekday, such as '0 2 * * *'")
    parser.add_argument("--every", metavar="DURATION", help="add: instead of --cron: at each multiple of this, such as 5m")
    parser.add_argument("--tz", default="UTC", metavar="ZONE", help="add: the time zone of --cron (default: UTC)")
    parser.add_argument("--overlap", default="skip", metavar="WORD", help="add: while the last flow runs: skip, queue or replace")
    parser.add_argument(
        "--catch-up", default="one", metavar="WORD", help="add: which missed firings are made up for: one, none or all"
    )
    parser.add_argument("-i", "--input", action="append", default=[], metavar="KEY=VALUE", help="add: an input of the pipeline")
    parser.add_argument("--input-json", metavar="TEXT|@FILE|-", help="add: inputs as a JSON object; -i wins over it")
    parser.add_argument("--tenant", default="", metavar="NAME", help="add: whose its flows are")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="WORD", help="add: a word to find its flows by; may be repeated"
    )
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="add: of its flows (default: 0)")
    parser.add_argument("--deadline", metavar="DURATION", help="add: of each of its flows")


def run(arguments: argparse.Namespace) -> int:
    """Lists, adds, removes, pauses, resumes schedules, and makes them fire."""
    output_of(arguments)
    if arguments.action != "list" and arguments.id is None:
        raise UsageError("which schedule?", f"write its id behind `{arguments.action}`")
    if arguments.action == "add" and arguments.pipeline is None:
        raise UsageError("which pipeline?", "write MODULE:PIPELINE behind the id")
    if arguments.action == "add" and (arguments.cron is None) == (arguments.every is None):
        given = "neither --cron nor --every was given" if arguments.cron is None else "--cron and --every were both given"
        raise UsageError(given, "give one of them: --cron '0 2 * * *' or --every 5m")
    return run_async(lambda: _schedule(arguments))


async def _schedule(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        match arguments.action:
            case "list":
                _show(arguments, await producer.schedules())
            case "add":
                await _add(arguments, producer)
            case "run":
                flow_id = (await producer.run_schedule(arguments.id)).id
                if output_of(arguments) == "text":
                    print(flow_id)
                else:
                    say_json(arguments, "submitted", {"id": flow_id})
            case action:
                changes: dict[str, Any] = {
                    "remove": producer.unschedule, "pause": producer.pause_schedule, "resume": producer.resume_schedule,
                }  # fmt: skip
                await changes[action](arguments.id)
                _say_done(arguments, _DONE[action])
    return exits.OK


async def _add(arguments: argparse.Namespace, producer: FlowProducer) -> None:
    from flowq.cli.inputs import pipeline_arguments
    from flowq.engine.code.modules import load_pipeline

    pipeline = load_pipeline(arguments.pipeline)
    await producer.schedule(
        arguments.id,
        pipeline,
        cron=arguments.cron,
        every=arguments.every,
        tz=arguments.tz,
        overlap=arguments.overlap,
        catch_up=arguments.catch_up,
        tenant=arguments.tenant,
        tags=tuple(arguments.tag),
        priority=arguments.priority,
        deadline=arguments.deadline,
        **pipeline_arguments(pipeline.fn, arguments.input, arguments.input_json),
    )
    _say_done(arguments, "added")


def _say_done(arguments: argparse.Namespace, what: str) -> None:
    if output_of(arguments) == "text":
        note(f"schedule {arguments.id} is {what}")
    else:
        say_json(arguments, what, {"id": arguments.id})


def _show(arguments: argparse.Namespace, schedules: Sequence[ScheduleSnapshot]) -> None:
    if output_of(arguments) != "text":
        say_json(arguments, "schedules", schedules)
        return
    if not schedules:
        note("there is no schedule")
        return
    from flowq.cli.render.ink import span
    from flowq.cli.render.sizes import shown_moment
    from flowq.cli.render.table import table

    rows = [
        [
            span(one.id),
            span(one.pipeline),
            span(one.timetable),
            span("paused" if one.next_at is None else shown_moment(one.next_at)),
            span(one.last_flow),
            span(one.problem or one.note, "bad" if one.problem else "dim"),
        ]
        for one in schedules
    ]
    screen = screen_for(arguments)
    say(table(["id", "pipeline", "when", "next", "last flow", ""], rows, screen), screen)
