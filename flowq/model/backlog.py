"""What there is to do, in the few numbers by which a fleet of workers is made larger and smaller. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flowq.model.fleet import QueueSnapshot


class QueueBacklog(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do in a queue, or in all of them.

    Attributes:
        queued: how many stages wait for a worker.
        running: how many run.
        total: how many a worker could do or does: both, and none of those that wait where the queue is paused.
        oldest_seconds: how long the one has waited that has waited longest; 0: none waits.
        is_paused: whether the queue is paused; of all of them, whether each is, and there are no others.
        is_estimate: whether these are not exact, because there is so much or not all queues may be known.
    """

    queued: int = 0
    running: int = 0
    total: int = 0
    oldest_seconds: float = 0.0
    is_paused: bool = False
    is_estimate: bool = False


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do in a namespace.

    Attributes:
        namespace: which.
        every: all queues together.
        queues: each, by name.
    """

    namespace: str
    every: QueueBacklog
    queues: dict[str, QueueBacklog] = {}

    def of(self, queue: str) -> QueueBacklog:
        """That of one queue; nothing where nobody knows it: queues are not made, so the next flow may bring it."""
        return self.queues.get(queue, QueueBacklog(is_estimate=self.every.is_estimate))


def backlog_of(namespace: str, queues: Iterable[QueueSnapshot], *, is_complete: bool = True) -> Backlog:
    """The backlog of these queues. `is_complete`: whether there are no others."""
    found = {queue.name: _of_one(queue) for queue in queues}
    every = QueueBacklog(
        queued=sum(one.queued for one in found.values()),
        running=sum(one.running for one in found.values()),
        total=sum(one.total for one in found.values()),
        oldest_seconds=max((one.oldest_seconds for one in found.values()), default=0.0),
        is_paused=is_complete and bool(found) and all(one.is_paused for one in found.values()),
        is_estimate=not is_complete or any(one.is_estimate for one in found.values()),
    )
    return Backlog(namespace=namespace, every=every, queues=found)


def _of_one(queue: QueueSnapshot) -> QueueBacklog:
    is_paused = queue.pause is not None
    return QueueBacklog(
        queued=queue.ready,
        running=queue.running,
        total=queue.running + (0 if is_paused else queue.ready),
        oldest_seconds=round(queue.oldest_seconds or 0.0, 3),
        is_paused=is_paused,
        is_estimate=queue.is_estimate,
    )
