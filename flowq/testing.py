"""For tests of stages: `stage_context` lets a stage's function run outside a worker, with real artifacts in a folder."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from flowq.artifacts import open_storage
from flowq.engine.run import context as stage_contexts
from flowq.engine.run.context import StageContext
from flowq.model.artifact import bound_reader


@contextmanager
def stage_context(
    folder: Path,
    *,
    flow_id: str = "test",
    stage: str = "test",
    attempt: int = 1,
    on_progress: Callable[[float, str], None] | None = None,
) -> Generator[StageContext]:
    """Makes `context()` and artifacts work inside the block.

    Args:
        folder: where artifacts are kept, such as pytest's `tmp_path`.
        flow_id: what `context().flow_id` gives.
        stage: what `context().stage` gives.
        attempt: what `context().attempt` gives.
        on_progress: told each fraction and message that the stage reports.

    Yields:
        The context, so that a test can call `cancel()` on it, and read `committed_artifacts()`.
    """
    storage = open_storage(f"file:{folder}")
    made = StageContext(
        flow_id, stage, attempt, attempt, token=f"{attempt}-test", storage=storage, on_progress=on_progress
    )  # fmt: skip
    entered, reader = stage_contexts.enter(made), bound_reader.set(storage)
    try:
        yield made
    finally:
        bound_reader.reset(reader)
        stage_contexts.leave(entered)
        storage.close()
