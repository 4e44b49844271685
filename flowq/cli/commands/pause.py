"""`flowq pause [queue|pipeline|flow NAME]`."""

from __future__ import annotations

import argparse
import getpass
import socket
from typing import TYPE_CHECKING

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import add_yes, found, output_of, producer_of, run_async, say_json
from flowq.cli.usage import UsageError

if TYPE_CHECKING:
    from flowq.engine.client.producer import FlowProducer

KINDS = ("queue", "pipeline", "flow")
_FLOWS_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_target(parser, optional=True)
    parser.add_argument("--by", metavar="NAME", help="who pauses it; shown by `inspect` (default: this user and host)")


def add_target(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The arguments that name what is paused or resumed."""
    more = "; without it: what is paused now" if optional else ""
    parser.add_argument("kind", metavar="queue|pipeline|flow", nargs="?" if optional else None, help="what" + more)
    parser.add_argument("name", metavar="NAME", nargs="?" if optional else None, help="its name; of a flow the id, or `latest`")
    add_yes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Pauses a queue, a pipeline or a flow: what runs goes on, nothing new is begun."""
    output_of(arguments)
    if arguments.kind is None:
        return run_async(lambda: _show(arguments))
    refuse_target(arguments)
    return run_async(lambda: _pause(arguments))


def refuse_target(arguments: argparse.Namespace) -> None:
    """Raises UsageError where it is not said what."""
    if arguments.kind not in KINDS:
        raise UsageError(f"{arguments.kind!r} can't be paused", f"one of: {', '.join(KINDS)}")
    if arguments.name is None:
        raise UsageError(f"which {arguments.kind}?", f"write its name behind `{arguments.kind}`")


async def flow_of(producer: FlowProducer, arguments: argparse.Namespace) -> str:
    """The id of the flow that was named."""
    arguments.flow_id = arguments.name
    return await found(producer, arguments, changes=True)


async def _pause(arguments: argparse.Namespace) -> int:
    by = f"{getpass.getuser()}@{socket.gethostname()}" if arguments.by is None else arguments.by
    kind, name = arguments.kind, arguments.name
    is_paused = True
    async with producer_of(arguments) as producer:
        if kind == "queue":
            await producer.pause_queue(name, by=by)
        elif kind == "pipeline":
            await producer.pause_pipeline(name, by=by)
        else:
            name = await flow_of(producer, arguments)
            is_paused = await producer.flow(name).pause(by=by)
    if output_of(arguments) == "text":
        note(f"{kind} {name} is paused" if is_paused else f"flow {name} has ended: nothing to pause")
    else:
        say_json(arguments, "paused", {"kind": kind, "name": name, "is_paused": is_paused})
    return exits.OK


async def _show(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        pauses = await producer.pauses(flows=_FLOWS_SHOWN + 1)
    has_more = sum(pause.kind == "flow" for pause in pauses) > _FLOWS_SHOWN
    shown = pauses[:-1] if has_more else pauses
    if output_of(arguments) != "text":
        say_json(arguments, "pauses", shown)
    elif shown:
        for pause in shown:
            print(pause.sentence)
    else:
        note("no queue, pipeline or flow is paused; of flows that stages spawned `flowq inspect` tells")
    if has_more:
        note(f"the newest {_FLOWS_SHOWN} paused flows: `flowq list --state paused` shows more")
    return exits.OK
