"""What commands share: settings from flags, a producer to talk to, ids as people type them, and the answer's form.

The engine is imported when a command opens its producer, so that help, errors of usage and `version` stay instant.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from flowq.cli.report import note
from flowq.cli.usage import UsageError
from flowq.settings import Settings, SettingsWarning

if TYPE_CHECKING:
    from flowq.cli.render.ink import Line
    from flowq.cli.render.screen import Screen
    from flowq.engine.client.producer import FlowProducer


def settings_of(arguments: argparse.Namespace, **more: Any) -> Settings:
    """The settings, with what was given as options. Misspelt variables are warned of on stderr."""
    explicit = {name: getattr(arguments, name, None) for name in ("url", "namespace", "artifacts")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SettingsWarning)
        settings = Settings.load(**explicit, **more)
    for warning in caught:
        note(f"flowq: warning: {warning.message}")
    return settings


@asynccontextmanager
async def producer_of(arguments: argparse.Namespace) -> AsyncGenerator[FlowProducer]:
    """A connected producer."""
    settings = settings_of(arguments)
    # What went wrong is said once, by the command; the engine's log is for programs that stay.
    if not getattr(arguments, "debug", False):
        logging.getLogger("flowq").setLevel(logging.CRITICAL)
    from flowq.engine.client.producer import FlowProducer

    async with FlowProducer(settings=settings) as producer:
        yield producer


def run_async(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Runs a command's coroutine to its exit code."""
    return asyncio.run(main())


async def found(producer: FlowProducer, arguments: argparse.Namespace, *, changes: bool = False) -> str:
    """The whole id for what was typed: an id, a unique beginning of one, or `latest`.

    Args:
        producer: whose flows.
        arguments: with `flow_id`, and `yes` where the command changes something.
        changes: without a terminal somebody's script runs, and a guess that changes things must be allowed explicitly.

    Raises:
        FlowNotFound, AmbiguousFlowId.
        UsageError: a guess would have to be made.
    """
    typed: str = arguments.flow_id
    flow_id: str = await producer.find(typed)
    if changes and flow_id != typed and not arguments.yes and not sys.stdin.isatty():
        raise UsageError(f"{typed!r} stands for {flow_id!r}, and there is no terminal to see that", "give the whole id, or --yes")
    return flow_id


def output_of(arguments: argparse.Namespace, known: Sequence[str] = ("text", "json", "jsonl")) -> str:
    """The format asked for, or UsageError."""
    output: str = getattr(arguments, "output", "text")
    if output not in known:
        raise UsageError(f"output format {output!r} is unknown here", f"one of: {', '.join(known)}")
    return output


def say_json(arguments: argparse.Namespace, kind: str, data: Any) -> None:
    """Prints one envelope: on one line for jsonl and where it is piped, else for reading."""
    from flowq.cli.documents import envelope, json_text

    is_line = getattr(arguments, "output", "") == "jsonl"
    print(json_text(envelope(kind, data), pretty=not is_line), flush=is_line)


def screen_for(arguments: argparse.Namespace) -> Screen:
    """What stdout can show."""
    from flowq.cli.render.screen import screen_of

    return screen_of(sys.stdout, getattr(arguments, "color", "auto"))


def say(lines: Sequence[Line], screen: Screen) -> None:
    """Prints lines on stdout."""
    from flowq.cli.render.ink import painted

    sys.stdout.write(painted(lines, screen.colour))


def add_flow_id(parser: argparse.ArgumentParser, *, optional: bool = False, or_filter: bool = False) -> None:
    """The argument that names a flow."""
    text = "id of the flow, a unique beginning of it, or `latest`"
    if or_filter:
        parser.add_argument("flow_id", metavar="FLOW_ID", nargs="?", help=text + "; none: give a filter")
    elif optional:
        parser.add_argument("flow_id", metavar="FLOW_ID", nargs="?", default="latest", help=text + " (the default)")
    else:
        parser.add_argument("flow_id", metavar="FLOW_ID", help=text)


def add_yes(parser: argparse.ArgumentParser) -> None:
    """The option that allows a change on a guessed id without a terminal."""
    parser.add_argument("-y", "--yes", action="store_true", help="allow `latest` and beginnings of ids without a terminal")
