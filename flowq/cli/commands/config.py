"""`flowq config`."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.session import output_of, say, say_json, screen_for, settings_of
from flowq.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options: there are none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Shows every setting, its value (passwords masked) and where it came from."""
    settings_of(arguments)  # warns of misspelt variables
    explicit = {name: getattr(arguments, name, None) for name in ("url", "namespace", "artifacts")}
    origins = Settings.origins(**explicit)
    if output_of(arguments) == "text":
        from flowq.cli.render.ink import span
        from flowq.cli.render.table import table

        screen = screen_for(arguments)
        rows = [[span(origin.name), span(origin.source, "dim"), span(origin.value)] for origin in origins]
        say(table(["setting", "from", "value"], rows, screen), screen)
    else:
        say_json(arguments, "settings", {origin.name: {"value": origin.value, "source": origin.source} for origin in origins})
    return exits.OK
