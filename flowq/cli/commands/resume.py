"""`flowq resume queue|pipeline|flow NAME`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.commands.pause import add_target, flow_of, refuse_target
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say_json


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Resumes a queue, a pipeline or a flow."""
    output_of(arguments)
    refuse_target(arguments)
    return run_async(lambda: _resume(arguments))


async def _resume(arguments: argparse.Namespace) -> int:
    kind, name = arguments.kind, arguments.name
    goes_on = was_paused = True
    async with producer_of(arguments) as producer:
        if kind != "flow":
            was_paused = any((one.kind, one.name) == (kind, name) for one in await producer.pauses())
        if kind == "queue":
            await producer.resume_queue(name)
        elif kind == "pipeline":
            await producer.resume_pipeline(name)
        else:
            name = await flow_of(producer, arguments)
            goes_on = await producer.flow(name).resume()
    if output_of(arguments) == "text":
        said = "goes on" if was_paused else "was not paused: it goes on as before"
        note(f"{kind} {name} {said}" if goes_on else f"flow {name} has ended: nothing to resume")
    else:
        say_json(arguments, "resumed", {"kind": kind, "name": name, "goes_on": goes_on})
    return exits.OK
