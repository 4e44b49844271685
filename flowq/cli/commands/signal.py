"""`flowq signal FLOW_ID NAME [VALUE]`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import add_flow_id, add_yes, found, output_of, producer_of, run_async, say_json
from flowq.cli.usage import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser)
    parser.add_argument("name", metavar="NAME", help="the signal's name; `inspect` shows what a flow waits for")
    parser.add_argument("value", metavar="VALUE", nargs="?", default="null", help="its value as JSON; null by default")
    add_yes(parser)


def run(arguments: argparse.Namespace) -> int:
    """Hands a value to the stages that wait for it, now or later; the first value of a name counts."""
    output_of(arguments)
    value = _value(arguments.value)
    return run_async(lambda: _signal(arguments, value))


async def _signal(arguments: argparse.Namespace, value: Any) -> int:
    async with producer_of(arguments) as producer:
        flow_id = await found(producer, arguments, changes=True)
        is_awaited = await producer.flow(flow_id).awaits(arguments.name)
        is_new = await producer.flow(flow_id).signal(arguments.name, value)
    if output_of(arguments) == "text":
        note(f"{flow_id}: signal {arguments.name} {'was sent' if is_new else 'had been sent before'}")
        if is_new and not is_awaited:
            note(f"  nothing waits for {arguments.name} now; it is kept for what asks for it later")
    else:
        say_json(arguments, "signalled", {"id": flow_id, "signal": arguments.name, "is_new": is_new})
    return exits.OK


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError(f"VALUE {text!r} is no JSON", f"text stands in double quotes: '{json.dumps(text)}'") from None
