"""`flowq queues`."""

from __future__ import annotations

import argparse

from flowq.cli.live_fleet import add_watch, show
from flowq.cli.render.fleet import queue_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_watch(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows what waits and runs in each queue, and how many workers serve it."""
    return show(arguments, "queues", lambda producer: producer.queues(), queue_table, "no queue is served or waited in")
