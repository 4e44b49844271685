"""`flowq submit MODULE:PIPELINE`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say_json
from flowq.cli.usage import UsageError
from flowq.cli.waiting import result_of, timeout_seconds

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle
    from flowq.model.spec import FlowSpec

# In the order of the fields of `Dedup`.
_DEDUP_OPTIONS = ("dedup_window", "dedup_debounce", "dedup_max_wait", "dedup_keep_last")
_SAID = {
    "found": "nothing was added: this one is there",
    "replaced": "took the place of the one that was there",
    "kept": "begins when the one before has ended",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("pipeline", metavar="MODULE:PIPELINE", help="a dotted module or a .py file, and the pipeline in it")
    parser.add_argument(
        "-i", "--input", action="append", default=[], metavar="KEY=VALUE", help="an input, typed by the pipeline's annotations"
    )
    parser.add_argument("--input-json", metavar="TEXT|@FILE|-", help="inputs as a JSON object; -i wins over it")
    parser.add_argument("--id", help="the flow's id; the same id and inputs again give the same flow")
    parser.add_argument("--tenant", default="", metavar="NAME", help="whose flow it is")
    parser.add_argument("--tag", action="append", default=[], metavar="WORD", help="a word to find it by; may be repeated")
    parser.add_argument("--priority", type=int, default=0, metavar="N", help="larger runs first (default: 0)")
    parser.add_argument("--delay", metavar="DURATION", help="begin so long after it was added")
    parser.add_argument(
        "--start-at", metavar="MOMENT", help="begin then, such as 2030-01-31T02:00+01:00; without offset: local time"
    )
    parser.add_argument(
        "--deadline", metavar="DURATION|MOMENT", help="what has not completed by then is cancelled: the flow failed"
    )
    parser.add_argument("--dedup", metavar="KEY", help="add nothing while another of this key has not ended; print its id")
    parser.add_argument("--dedup-window", metavar="DURATION", help="with --dedup: for so long after it was added instead")
    parser.add_argument(
        "--dedup-debounce", metavar="DURATION", help="with --dedup: begin when nothing was added for so long; the last one counts"
    )
    parser.add_argument("--dedup-max-wait", metavar="DURATION", help="with --dedup-debounce: wait no longer than this in all")
    parser.add_argument("--dedup-keep-last", action="store_true", help="with --dedup: let the last one begin after the first")
    parser.add_argument("--no-cache", action="store_true", help="run also stages whose results are known, and keep these anew")
    parser.add_argument("--follow", action="store_true", help="show what happens, on stderr; the exit code tells how it ended")
    parser.add_argument("--wait", action="store_true", help="wait for the end and print the result as JSON on the next line")
    parser.add_argument("--timeout", metavar="DURATION", help="with --follow or --wait: give up after this long; exit code 124")


def run(arguments: argparse.Namespace) -> int:
    """Starts a flow and prints its id alone on stdout."""
    output_of(arguments)
    if arguments.timeout is not None:
        if not (arguments.follow or arguments.wait):
            raise UsageError("--timeout is given, but nothing is waited for", "add --follow or --wait")
        timeout_seconds(arguments)  # a wrong one must not be found after the flow was added
    if arguments.delay is not None and arguments.start_at is not None:
        raise UsageError("--delay and --start-at were both given", "give one of them: both say when it begins")
    given = [option for option in _DEDUP_OPTIONS if getattr(arguments, option)]
    if given and arguments.dedup is None:
        raise UsageError(f"--{given[0].replace('_', '-')} is given without --dedup", "give the key too")
    return run_async(lambda: _submit(arguments))


async def _submit(arguments: argparse.Namespace) -> int:
    from flowq.cli.inputs import pipeline_arguments
    from flowq.cli.moments import duration_or_moment, moment
    from flowq.engine.code.modules import load_pipeline
    from flowq.model.dedup import Dedup
    from flowq.pipeline import Stage

    pipeline = load_pipeline(arguments.pipeline)
    values = pipeline_arguments(pipeline.fn, arguments.input, arguments.input_json)
    spec: FlowSpec[Any] = pipeline.flow(**values) if isinstance(pipeline, Stage) else pipeline(**values)
    dedup = None
    if arguments.dedup is not None:
        dedup = Dedup(arguments.dedup, *(getattr(arguments, option) for option in _DEDUP_OPTIONS))
    async with producer_of(arguments) as producer:
        handle = await producer.add(
            spec,
            id=arguments.id,
            tenant=arguments.tenant,
            tags=tuple(arguments.tag),
            priority=arguments.priority,
            delay=arguments.delay,
            start_at=None if arguments.start_at is None else moment(arguments.start_at, "--start-at"),
            deadline=duration_or_moment(arguments.deadline, "--deadline"),
            dedup=dedup,
            cache=not arguments.no_cache,
        )
        if output_of(arguments) == "text":
            print(handle.id, flush=True)
            if dedup is not None and handle.addition != "added":
                note(f"{handle.id}: {_SAID[handle.addition]}")
        elif not arguments.wait:
            say_json(arguments, "submitted", {"id": handle.id, "addition": handle.addition})
        return await _to_the_end(arguments, handle)


async def _to_the_end(arguments: argparse.Namespace, handle: FlowHandle[Any]) -> int:
    code = exits.OK
    if arguments.follow:
        from flowq.cli.following import follow, stderr_screen

        output = output_of(arguments)
        stream = sys.stdout if output == "jsonl" else sys.stderr
        screen = stderr_screen(getattr(arguments, "color", "auto"))
        snapshot = await follow(handle, output, stream, screen, timeout_seconds(arguments))
        code = exits.OF_STATE.get(snapshot.state, exits.ERROR)
    if arguments.wait:
        result = await result_of(handle, timeout_seconds(arguments))
        if output_of(arguments) == "text":
            from flowq.cli.documents import json_text

            print(json_text(result, pretty=False))
        else:
            say_json(arguments, "result", {"id": handle.id, "result": result})
    return code
