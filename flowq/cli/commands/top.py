"""`flowq top`."""

from __future__ import annotations

import argparse

from flowq.cli.live_fleet import fleet_lines, show_live


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options: there are none."""


def run(arguments: argparse.Namespace) -> int:
    """Shows queues and workers live, until Ctrl-C."""
    return show_live(arguments, fleet_lines)
