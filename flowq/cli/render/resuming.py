"""The commands that let go on what is paused around a flow: a queue, its pipeline, a flow above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowq.model.snapshot import FlowSnapshot

_SHOWN_MAX: Final = 3


def resumes(snapshot: FlowSnapshot) -> Sequence[list[str]]:
    """`resume queue slow`, for each pause that keeps a stage from beginning."""
    paused = [stage.reason for stage in snapshot.graph if stage.reason is not None and stage.reason.code == "paused"]
    # A sentence of a pause begins with its kind.
    found = {(reason.sentence.partition(" ")[0], name): None for reason in paused for name in reason.on}
    return [["resume", kind, name] for kind, name in list(found)[:_SHOWN_MAX]]
