"""What a snapshot says of results that were there before: of an earlier run of the flow, or of another stage with a cache."""

from __future__ import annotations

import msgspec

from flowq.model.snapshot import Reason, Reused, StageSnapshot
from flowq.store.wire import Record


class Other(msgspec.Struct, array_like=True):
    """Field `c<index>`: see scripts/reuse.lua.

    Attributes:
        fence: of the run that was spared or put off.
        flow_id, stage: whose result it took, or waits for.
        looks: how many runs ended so.
    """

    fence: int
    flow_id: str
    stage: str
    looks: int


other_decoder = msgspec.msgpack.Decoder(Other)


def with_earlier(stage: StageSnapshot, flow_id: str, again_at: int | None) -> StageSnapshot:
    """A stage, marked if what it completed stood when its flow was retried by hand.

    Args:
        stage: as it stands.
        flow_id: its flow.
        again_at: when the flow was retried last, by the server's clock in ms; None: never.
    """
    # In the very millisecond of the retry: it ran again; before, its flow had to end and to be read.
    if again_at is None or stage.state != "completed" or stage.ended_at is None or stage.ended_at >= again_at or stage.reused:
        return stage
    return msgspec.structs.replace(stage, reused=Reused(flow_id, stage.name))


def with_other(stage: StageSnapshot, record: Record | None, data: bytes | None) -> StageSnapshot:
    """A stage with what its field says of another one's result."""
    if data is None or record is None:
        return stage
    other = other_decoder.decode(data)
    is_latest = other.fence == record.fence
    has_run = stage.state in ("running", "completed", "skipped") and not (is_latest and stage.state == "completed")
    # Those that only looked are counted by fences, which may begin anew with a retry by hand, but are in no history.
    stage = msgspec.structs.replace(stage, runs=max(record.fence - other.looks, len(stage.history) + has_run))
    if not is_latest:
        return stage
    if stage.state == "scheduled":
        sentence = f"flow {other.flow_id} computes the same; waits for it"
        return msgspec.structs.replace(stage, reason=Reason("cache_pending", sentence, (other.flow_id,)))
    if stage.state == "completed":
        return msgspec.structs.replace(stage, reused=Reused(other.flow_id, other.stage), run_seconds=None)
    return stage
