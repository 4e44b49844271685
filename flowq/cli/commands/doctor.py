"""`flowq doctor`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.session import output_of, producer_of, run_async, say, say_json, screen_for
from flowq.errors import EmbeddedError, ServerError, StorageError
from flowq.model.finding import Finding

_LOOK = {"ok": ("completed", "ok"), "warn": ("ready", "wait"), "fail": ("failed", "bad")}


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options: there are none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Checks server, storage and workers; exit code 1 if there is anything to mend."""
    output_of(arguments)
    return run_async(lambda: _doctor(arguments))


async def _doctor(arguments: argparse.Namespace) -> int:
    findings = await _findings(arguments)
    if output_of(arguments) == "text":
        _show(arguments, findings)
    else:
        say_json(arguments, "findings", findings)
    return exits.ERROR if any(finding.level != "ok" for finding in findings) else exits.OK


async def _findings(arguments: argparse.Namespace) -> list[Finding]:
    """What the engine finds. A server that can't be reached at all is a finding like any other."""
    try:
        async with producer_of(arguments) as producer:
            return list(await producer.doctor())
    except (ServerError, EmbeddedError) as error:
        return [Finding("server", "fail", error.problem, error.remedy)]
    except StorageError as error:
        return [Finding("artifacts", "fail", error.problem, error.remedy)]


def _show(arguments: argparse.Namespace, findings: list[Finding]) -> None:
    from flowq.cli.render import palette
    from flowq.cli.render.ink import Line, Span, cells, pad, span, wrap

    screen = screen_for(arguments)
    size = max((cells(finding.name) for finding in findings), default=0)
    room = screen.width - size - 5
    lines: list[Line] = []
    for finding in findings:
        state, style = _LOOK[finding.level]
        first, *rest = wrap(span(finding.problem).text, room)
        mark = Span(palette.glyph(state, screen.unicode) + " ", style)
        lines.append((mark, span(pad(finding.name, size) + "  ", "bold"), Span(first, "" if style == "ok" else style)))
        indent = Span(" " * (size + 4))
        lines += [(indent, Span(row, style)) for row in rest]
        arrow = "→ " if screen.unicode else "-> "
        lines += [(indent, Span(row)) for row in (wrap(arrow + span(finding.remedy).text, room) if finding.remedy else [])]
    say(lines, screen)
