"""`flowq queues`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowq.cli.live_fleet import add_watch, show
from flowq.cli.render.fleet import queue_table
from flowq.model.fleet import QueueSnapshot
from flowq.model.names import check_name

if TYPE_CHECKING:
    from flowq.engine.client.producer import FlowProducer


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    parser.add_argument("queues", metavar="QUEUE", nargs="*", help="only these, also where nothing waits in them (default: all)")
    add_watch(parser)


def run(arguments: argparse.Namespace) -> int:
    """Shows what waits and runs in each queue, and how many workers serve it."""
    names = [check_name(name, "queue") for name in arguments.queues]

    async def read(producer: FlowProducer) -> Sequence[QueueSnapshot]:
        found = {queue.name: queue for queue in await producer.queues()}
        # Queues are not made: one that nobody knows has nothing in it.
        return [found.get(name) or QueueSnapshot(name=name) for name in names] if names else list(found.values())

    return show(arguments, "queues", read, queue_table, "no queue is served or waited in")
