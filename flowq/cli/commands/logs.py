"""`flowq logs FLOW_ID [STAGE]`."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import add_flow_id, found, output_of, producer_of, run_async, say, say_json, screen_for

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle
    from flowq.model.logs import LogLine

_LOOK_SECONDS = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser)
    parser.add_argument("stage", metavar="STAGE", nargs="?", help="only this stage or item, or those that `encode*` fits")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the flow has ended")


def run(arguments: argparse.Namespace) -> int:
    """Prints what the stages of a flow have logged."""
    output_of(arguments)
    return run_async(lambda: _logs(arguments))


async def _logs(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        handle = producer.flow(await found(producer, arguments))
        if arguments.follow:
            await _follow(arguments, handle)
            return exits.OK
        lines = list(await handle.logs(arguments.stage))
    if output_of(arguments) == "json":
        say_json(arguments, "logs", lines)
    elif lines:
        _show(arguments, lines)
    else:
        note("nothing was logged")
    return exits.OK


async def _follow(arguments: argparse.Namespace, handle: FlowHandle[Any]) -> None:
    """Looks once a second, as often as logs come in: lines that are there already are not shown again."""
    from flowq.cli.waiting import once_made

    shown: set[LogLine] = set()
    while True:
        is_over = (await once_made(handle)).is_final
        lines = list(await handle.logs(arguments.stage))
        _show(arguments, [line for line in lines if line not in shown])
        if is_over:
            return
        shown = set(lines)
        await asyncio.sleep(_LOOK_SECONDS)


def _show(arguments: argparse.Namespace, lines: list[LogLine]) -> None:
    if output_of(arguments) != "text":
        for line in lines:
            say_json(argparse.Namespace(output="jsonl"), "log", line)
        return
    from flowq.cli.render.logs import log_lines

    screen = screen_for(arguments)
    say(log_lines(lines, screen), screen)
