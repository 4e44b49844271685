"""`QueueSnapshot`: a queue as it stands at one moment, over all workers and flows. Pure."""

from __future__ import annotations

import msgspec

from flowq.model.pause import Pause


class QueueSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A queue.

    Attributes:
        name: its name.
        ready: how many stages wait for a worker. Of flows that ended since they count until a worker comes by them; what was put
            aside because its flow or pipeline is paused does not.
        running: how many run, under workers whose lease lasts.
        delayed: how many wait for a time: of flows that begin later, and between two attempts.
        workers: how many worker processes serve it.
        slots: how many stages these may run at once, together with those of other queues that they serve.
        oldest_seconds: how long the one has waited that has waited longest, of those that are next; None: none waits.
        pause: since when it is paused, and by whom, if it is.
        is_estimate: whether there are so many that `ready` or `delayed` were counted in part only.
    """

    name: str
    ready: int = 0
    running: int = 0
    delayed: int = 0
    workers: int = 0
    slots: int = 0
    oldest_seconds: float | None = None
    pause: Pause | None = None
    is_estimate: bool = False
