"""`flowq queues`, `flowq workers` and `flowq top`: a row for each."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowq.cli.render import palette
from flowq.cli.render.ink import Line, Span, line, span
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_seconds
from flowq.cli.render.table import table
from flowq.model.builtin import BUILTIN_QUEUE
from flowq.model.fleet import QueueSnapshot, WorkerSnapshot


def queue_table(queues: Sequence[QueueSnapshot], screen: Screen) -> list[Line]:
    """A row for each queue; in the last column what is to be known of it."""
    rows = [
        [
            span(queue.name),
            span(f"{'~' if queue.is_estimate else ''}{queue.ready:,}"),
            span(f"{queue.running:,}"),
            span(f"{queue.delayed:,}"),
            span(f"{queue.workers:,}"),
            span(f"{queue.slots:,}"),
            span(shown_seconds(queue.oldest_seconds)),
            _remark(queue),
        ]
        for queue in queues
    ]
    return table(["queue", "ready", "running", "delayed", "workers", "slots", "oldest", ""], rows, screen)


def worker_table(workers: Sequence[WorkerSnapshot], screen: Screen) -> list[Line]:
    """A row for each process."""
    now_ms = time.time() * 1000
    rows = [
        [
            span(worker.name),
            span(f"{worker.running:,}/{worker.concurrency:,}"),
            span(shown_seconds((now_ms - worker.since) / 1000) if worker.since else "", "dim"),
            span(f"{worker.lease_seconds:.0f} s", "dim"),
            span(worker.id, "dim"),
            span(" ".join(queue for queue in worker.queues if queue != BUILTIN_QUEUE)),
        ]
        for worker in workers
    ]
    return table(["worker", "runs", "for", "lease", "id", "queues"], rows, screen)


def fleet_view(queues: Sequence[QueueSnapshot], workers: Sequence[WorkerSnapshot], screen: Screen) -> list[Line]:
    """Both of them."""
    nobody = [line(span("no worker is connected", palette.style("failed")))]
    return [*queue_table(queues, screen), (), *(worker_table(workers, screen) if workers else nobody)]


def _remark(queue: QueueSnapshot) -> Span:
    if queue.pause is not None:
        return span(f"paused{f' by {queue.pause.by}' if queue.pause.by else ''}", palette.style("paused"))
    return span("no worker serves it", palette.style("failed")) if not queue.workers and queue.ready else Span("")
