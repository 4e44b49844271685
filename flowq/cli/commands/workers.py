"""`flowq workers`."""

from __future__ import annotations

import argparse

from flowq.cli.live_fleet import add_watch, show
from flowq.cli.render.fleet import worker_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_watch(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows the processes that work now: those whose lease lasts."""
    nothing = "no worker is connected: start one with `flowq worker MODULE`"
    return show(arguments, "workers", lambda producer: producer.workers(), worker_table, nothing)
