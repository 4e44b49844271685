"""Queues and workers, once or live: what `flowq queues`, `flowq workers` and `flowq top` share."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from flowq.cli import exits
from flowq.cli.render.fleet import fleet_view
from flowq.cli.render.ink import Line, painted
from flowq.cli.render.screen import WIDTH_MAX, WIDTH_MIN, Screen
from flowq.cli.report import note
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.cli.usage import UsageError

if TYPE_CHECKING:
    from flowq.engine.client.producer import FlowProducer

T = TypeVar("T")

# Reading all queues for one picture is worth the server's time every other second.
_PICTURE_SECONDS: Final = 2.0


def add_watch(parser: argparse.ArgumentParser) -> None:
    """The option that keeps a table on the screen."""
    parser.add_argument("--watch", action="store_true", help="show it live, until Ctrl-C")


def show(
    arguments: argparse.Namespace,
    kind: str,
    read: Callable[[FlowProducer], Awaitable[Sequence[T]]],
    draw: Callable[[Sequence[T], Screen], Sequence[Line]],
    nothing: str,
) -> int:
    """Shows a table once, or live with `--watch`.

    Args:
        arguments: with `watch`.
        kind: that of the JSON.
        read: what the table is made of.
        draw: makes it.
        nothing: said where there is nothing to show.

    Raises:
        UsageError: it can't be redrawn where it goes to.
    """
    if arguments.watch:
        return show_live(arguments, lambda producer, screen: _drawn(read(producer), draw, screen))
    output = output_of(arguments)

    async def once() -> int:
        async with producer_of(arguments) as producer:
            found = await read(producer)
        if output != "text":
            say_json(arguments, kind, found)
        elif found:
            say(draw(found, screen := screen_for(arguments)), screen)
        else:
            note(nothing)
        return exits.OK

    return run_async(once)


def show_live(arguments: argparse.Namespace, picture: Callable[[FlowProducer, Screen], Awaitable[Sequence[Line]]]) -> int:
    """Redraws in place until it is interrupted. Raises UsageError where that can't be."""
    output_of(arguments, ("text",))
    if not screen_for(arguments).is_terminal:
        raise UsageError("there is no terminal to show it live on", "without one: `flowq queues`, `flowq workers`")
    return run_async(lambda: _live(arguments, picture))


async def fleet_lines(producer: FlowProducer, screen: Screen) -> Sequence[Line]:
    """Queues, and below them workers."""
    queues, workers = await asyncio.gather(producer.queues(), producer.workers())
    return fleet_view(queues, workers, screen)


async def _drawn(
    found: Awaitable[Sequence[T]], draw: Callable[[Sequence[T], Screen], Sequence[Line]], screen: Screen
) -> Sequence[Line]:
    return draw(await found, screen)


async def _live(arguments: argparse.Namespace, picture: Callable[[FlowProducer, Screen], Awaitable[Sequence[Line]]]) -> int:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    screen = screen_for(arguments)
    console = Console(file=sys.stdout, force_terminal=True, no_color=not screen.colour, highlight=False, markup=False)
    async with producer_of(arguments) as producer:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                # The terminal may have been resized since the last picture.
                now = screen._replace(width=min(max(console.width, WIDTH_MIN), WIDTH_MAX))
                lines = painted(await picture(producer, now), screen.colour)
                live.update(Text.from_ansi(lines.rstrip("\n"), no_wrap=True), refresh=True)
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise asyncio.CancelledError  # a client library may have swallowed a Ctrl-C
                await asyncio.sleep(_PICTURE_SECONDS)
