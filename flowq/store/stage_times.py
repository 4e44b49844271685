"""How often and how long a stage has run, as a snapshot says it."""

from __future__ import annotations

import msgspec

from flowq.model.names import worker_of
from flowq.model.snapshot import StageSnapshot
from flowq.store.wire import Record


def with_times(stage: StageSnapshot, record: Record, now: int, *, is_map: bool = False) -> StageSnapshot:
    """A stage with its attempts, runs and times. While a map is suspended, its items run; other stages do not."""
    has_begun = record.state not in ("r", "s") and bool(record.holder)
    started_at = record.ready_at + record.waited if has_begun else None
    is_at_work = record.state == "x" or (record.state == "u" and is_map)
    ran = now - started_at if is_at_work and started_at is not None else record.ran
    return msgspec.structs.replace(
        stage,
        attempt=record.attempt,
        runs=max(record.fence, len(stage.history) + (record.state in ("x", "c", "-"))),
        crashes=record.crashes,
        worker=worker_of(record.holder),
        ready_at=record.ready_at,
        started_at=started_at,
        ended_at=started_at + record.ran if stage.is_final and started_at is not None else None,
        wait_seconds=record.waited / 1000 if has_begun else None,
        run_seconds=ran / 1000 if has_begun else None,
    )


def seconds_of(stage: StageSnapshot, now: int) -> float:
    """From its first start to its end, attempts that failed and the waits between them included."""
    if stage.started_at is None:
        return 0.0
    began_at = stage.history[0].started_at if stage.history else stage.started_at
    return ((stage.ended_at or now) - began_at) / 1000
