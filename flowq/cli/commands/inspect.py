"""`flowq inspect FLOW_ID`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowq.cli import exits
from flowq.cli.session import add_flow_id, found, output_of, producer_of, run_async, say, say_json, screen_for

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle
    from flowq.model.event import Event
    from flowq.model.snapshot import FlowSnapshot

_FORMATS = ("text", "json", "jsonl", "mermaid", "dot", "svg")
_ALL_ROWS = 10**9


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser)
    parser.add_argument("--events", action="store_true", help="add the flow's events")
    parser.add_argument("--all", action="store_true", help="a row for every stage and item: fold nothing, however large it is")
    parser.epilog = "formats: text, json, jsonl, mermaid, dot, svg"


def run(arguments: argparse.Namespace) -> int:
    """Shows the flow once."""
    output_of(arguments, _FORMATS)
    return run_async(lambda: _inspect(arguments))


async def _inspect(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        handle = producer.flow(await found(producer, arguments))
        snapshot = await handle.inspect(items=arguments.all)
        events = await _past_events(handle, snapshot.seq) if arguments.events else None
    _show(arguments, snapshot, events)
    return exits.OK


async def _past_events(handle: FlowHandle[Any], last_seq: int) -> list[Event]:
    """The events up to the snapshot; a follower of a live flow would wait for more for ever."""
    from flowq.model.event import Event

    events: list[Event] = []
    if last_seq <= 0:
        return events
    async for item in handle.events(after=0):
        # A gap means the beginning was trimmed away: what can still be told follows it.
        seq = item.seq if isinstance(item, Event) else item.before
        if isinstance(item, Event) and item.seq:
            events.append(item)
        if seq >= last_seq:
            break
    return events


def _show(arguments: argparse.Namespace, snapshot: FlowSnapshot, events: Sequence[Event] | None) -> None:
    output = output_of(arguments, _FORMATS)
    if output in ("json", "jsonl"):
        from flowq.cli.documents import plain

        more = {} if events is None else {"events": [plain(event) for event in events]}
        say_json(arguments, "flow", {**plain(snapshot), **more})
    elif output == "text":
        _show_text(arguments, snapshot, events)
    else:
        sys.stdout.write(_drawn(output, snapshot))


def _show_text(arguments: argparse.Namespace, snapshot: FlowSnapshot, events: Sequence[Event] | None) -> None:
    from flowq.cli.render.events import event_line
    from flowq.cli.render.flow import flow_view

    screen = screen_for(arguments)
    lines = flow_view(snapshot, screen, rows_max=_ALL_ROWS if arguments.all else None)
    if events is not None:
        lines += [(), *(event_line(event, screen) for event in events)]
    say(lines, screen)


def _drawn(output: str, snapshot: FlowSnapshot) -> str:
    from flowq.cli.render.picture import picture

    drawing = picture(snapshot)
    if output == "mermaid":
        from flowq.cli.render.mermaid import mermaid

        return mermaid(drawing)
    if output == "dot":
        from flowq.cli.render.dot import dot

        return dot(drawing)
    from flowq.cli.render.svg import svg

    return svg(drawing)
