"""Waiting for a flow to end: what `result`, `watch` and `submit --wait` have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flowq.errors import FlowTimedOut
from flowq.model.duration import to_ms

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle


def timeout_seconds(arguments: argparse.Namespace) -> float | None:
    """`--timeout` in seconds; None: for ever. A bare number means seconds.

    Raises:
        InvalidValue: no duration.
    """
    text: str | None = arguments.timeout
    if text is None:
        return None
    value = float(text) if text.replace(".", "", 1).isdecimal() else text
    return to_ms(value, "--timeout") / 1000


async def result_of(handle: FlowHandle[Any], timeout: float | None, run: int | None = None) -> Any:
    """The flow's result as plain data; with `run` that of an earlier run, without waiting.

    Raises:
        FlowFailed, FlowCancelled: how it ended instead.
        FlowTimedOut: it has not ended in time.
        InvalidValue: no such run completed.
    """
    if run is not None:
        return await handle.result(run=run)
    snapshot = await handle.inspect()
    # A look first: with `--timeout 0` the answer of a finished flow must not depend on who is faster.
    if not snapshot.is_final and timeout == 0:
        raise FlowTimedOut(handle.id, 0)
    return await handle.result(timeout=None if snapshot.is_final else timeout)
