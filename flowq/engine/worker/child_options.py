"""What the supervisor tells a child at its start, and what the child tells of itself."""

from __future__ import annotations

import msgspec

from flowq.model.exchanged import House
from flowq.settings import KeepSettings, S3Access

# What the supervisor says when the child's lease has begun.
GO = "go"
# Before a `Heard`: what one child has heard for duties. The supervisor passes it on to the others.
HOUSE = "house"


class ChildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """A child's configuration.

    Attributes:
        modules: what to import for stages.
        url: the server.
        namespace: the namespace.
        artifacts: the location of artifact storage; empty: none.
        access: how to reach S3.
        holder: the id under which the child claims; the supervisor keeps its lease.
        name: shown in `flowq inspect`.
        is_alone: one stage at a time: those with a process of their own, and suspects.
        concurrency: stages at once.
        queues: queue → slots on this host; empty: all queues of its stages.
        drain_seconds: how long running stages may go on when it is told to drain.
        pulse_fd: the shared page.
        keep: how long ended flows are kept.
        has: what this host has of what stages need.
    """

    modules: tuple[str, ...]
    url: str
    namespace: str
    artifacts: str
    access: S3Access | None
    holder: str
    name: str
    is_alone: bool
    concurrency: int
    queues: dict[str, int | None]
    drain_seconds: float
    pulse_fd: int
    keep: KeepSettings = KeepSettings()
    has: dict[str, int] = {}


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What there is for duties.

    Attributes:
        tag: in which partition.
        house: there.
    """

    tag: str
    house: House


class Known(msgspec.Struct, frozen=True):
    """What a child can run.

    Attributes:
        queues: the queues it serves.
        stages: the stages it knows.
        routes: the routes it asks for.
        has_isolated: whether some of the stages want a process of their own.
        pipelines: the pipelines whose schedules it fires.
        own_queues: the queues that the stages are on where no call moves them.
        needs: stage → what it takes of its host.
    """

    queues: tuple[str, ...]
    stages: tuple[str, ...]
    routes: tuple[str, ...]
    has_isolated: bool
    pipelines: tuple[str, ...] = ()
    own_queues: tuple[str, ...] = ()
    needs: dict[str, dict[str, int]] = {}
