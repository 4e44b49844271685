"""Waiting for a flow to end: what `result`, `watch` and `submit --wait` have in common."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING, Any

from flowq.errors import FlowNotMade, FlowTimedOut
from flowq.model.duration import to_ms

if TYPE_CHECKING:
    from flowq.engine.flow.handle import FlowHandle
    from flowq.model.snapshot import FlowSnapshot

_LOOK_AGAIN_SECONDS = 0.25


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
    try:
        snapshot = await handle.inspect()
    except FlowNotMade:
        return await handle.result(timeout)
    # A look first: with `--timeout 0` the answer of a finished flow must not depend on who is faster.
    if not snapshot.is_final and timeout == 0:
        raise FlowTimedOut(handle.id, 0)
    return await handle.result(timeout=None if snapshot.is_final else timeout)


async def once_made(handle: FlowHandle[Any]) -> FlowSnapshot:
    """The flow as it stands, as soon as a worker has made it: somebody may have run its schedule a moment ago.

    Raises:
        FlowNotMade: it was cancelled before.
        FlowNotFound: it does not exist (any more).
    """
    while True:
        try:
            return await handle.inspect()
        except FlowNotMade as error:
            if error.is_cancelled:
                raise
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
