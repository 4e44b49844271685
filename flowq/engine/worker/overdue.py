"""A stage that did not end at its timeout and took its process with it: it is reported as timed out by who ended the process.

The child says in shared memory which of its runs has to end first; who kills the child for it reads that, and reports under
the dead child's id before its other stages are taken back.
"""

from __future__ import annotations

import secrets

import msgspec

from flowq.engine.run.expansion import loaded
from flowq.engine.run.policy import after_run_error
from flowq.engine.run.stage_clock import out_of_time
from flowq.errors import CorruptState
from flowq.model.outcome import Claim
from flowq.store.store import Store

# Beside the lines on which the child itself talked.
_LINE = 9


def described(claim: Claim, *, will_stall: bool = False) -> bytes:
    """What has to be known of a run to report on it: the claim without what the stage was given, which may be large.

    Args:
        claim: the run's.
        will_stall: whether it is to end because it tells no progress.
    """
    return msgspec.msgpack.encode((msgspec.structs.replace(claim, literals=b"", results=None), will_stall))


async def time_out(store: Store, holder: str, description: bytes) -> bool:
    """Reports that the described run of a holder that is dead has timed out: it is retried, or has failed, as if it had ended.

    Args:
        store: the store.
        holder: whose run it was; its lease must still stand.
        description: see `described`; what a dying process left may be rubbish.

    Returns:
        Whether it was reported; False: it can't be told what to report.

    Raises:
        ServerError: the server can't be used.
    """
    try:
        claim, has_stalled = msgspec.msgpack.decode(description, type=tuple[Claim, bool])
        return await _reported(store, holder, claim, has_stalled=has_stalled)
    # Rubbish may be no msgpack, or nested without end, or name a plan or a stage that there is not.
    except (CorruptState, ValueError, LookupError, RecursionError):
        return False


async def _reported(store: Store, holder: str, claim: Claim, *, has_stalled: bool) -> bool:
    plan = await store.plan(claim.flow_id, claim.plan)
    stage = await loaded(plan, claim.index)
    outcome = after_run_error(out_of_time(stage, has_stalled=has_stalled), stage, claim, plan)
    tag = store.keys.tag_of(claim.flow_id)
    answer = await store.exchange(tag, holder, _LINE, 1, secrets.token_urlsafe(8), [outcome], [], [], 0, parks=False)
    return answer is not None and not answer.verdicts
