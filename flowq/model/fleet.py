"""What there is of workers at one moment. Pure."""

from __future__ import annotations

import msgspec


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
