"""Queues and workers at one moment, over all flows. Pure."""

from __future__ import annotations

import msgspec

from flowq.model.pause import Pause


class QueueSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A queue.

    Attributes:
        name: its name.
        ready: how many stages wait for a worker, also those whose time has come while none was there. Those of a flow or a
            pipeline that is paused by itself do not count, those of a queue that is paused do.
        running: how many run, under workers whose lease lasts.
        delayed: how many wait for a time: of flows that begin later, and between two attempts.
        workers: how many worker processes serve it.
        slots: how many stages these may run at once, together with those of other queues that they serve.
        oldest_seconds: how long the one has waited that has waited longest, of those that were read; None: none waits.
        pause: since when it is paused, and by whom, if it is.
        is_estimate: whether there are so many that `ready` or `delayed` were counted in part only, or a flow has so many queues
            and stages that not all of them are known.
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


class WorkerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A live process that claims stages.

    Attributes:
        id: its holder id.
        name: the worker's name: host, process, child.
        queues: the queues it serves.
        stages: the stages it knows, such as `encode`, or `encode@2` where they have a version.
        running: how many stages it holds.
        lease_seconds: how long its lease still lasts.
        is_alone: whether it is a child for single stages, beside the processes that its worker was asked for.
        pipelines: the pipelines whose schedules it fires.
        has: what its host has of what stages need.
        in_use: how much of that stages take now that run there, under whichever process of the host.
        concurrency: how many stages it runs at once.
        since: when it announced itself, milliseconds since 1970; None: not known.
    """

    id: str
    name: str
    queues: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    running: int = 0
    lease_seconds: float = 0.0
    is_alone: bool = False
    pipelines: tuple[str, ...] = ()
    has: dict[str, int] = {}
    concurrency: int = 0
    since: int | None = None
    in_use: dict[str, int] = {}
