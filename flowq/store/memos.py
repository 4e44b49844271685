"""Memos in the store: earlier results of stages with a cache, who computes one now, and who waits. Functions beside `Store`.

A memo lies in the partition of its digest, the stages that use it in those of their flows: so all of this stands beside their
outcomes, and whatever of it is lost costs a run at most.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flowq.model.memo import Known, Mark, MemoSource
from flowq.model.outcome import Claim
from flowq.store.keys import MEMO, MEMO_MARK, SPARED
from flowq.store.reused import other_decoder
from flowq.store.store import Store
from flowq.store.views import head_decoder, header_decoder, record_decoder

_HASTENED_MAX = 500
_OPEN = ("r", "x")

_pack = msgspec.msgpack.Encoder().encode
_marks = msgspec.msgpack.Decoder(Mark)


class Asking(msgspec.Struct, frozen=True):
    """A stage with a cache that was claimed.

    Attributes:
        digest: names what it computes.
        cache_ms: how long results are kept, and how old one may be.
        mark: it, as one that computes.
        is_fresh: whether it is to run whatever is known.
    """

    digest: str
    cache_ms: int
    mark: Mark
    is_fresh: bool = False

    @property
    def packed_mark(self) -> bytes:
        """The mark as it is stored."""
        return _pack(self.mark)

    @property
    def member(self) -> str:
        """The stage, as scripts name it."""
        return f"{self.mark.index}:{self.mark.flow_id}"


class Standing(msgspec.Struct, frozen=True):
    """What a claimed stage's flow says of it.

    Attributes:
        run: 1 more than how often the flow was retried by hand.
        is_fresh: whether the stage is to run whatever is known: because the flow was added so, or because it has completed and
            somebody retried it by hand.
        looks: how many runs of it only looked what is known.
    """

    run: int = 1
    is_fresh: bool = False
    looks: int = 0


async def standing_of(store: Store, claim: Claim) -> Standing:
    """What a claimed stage's flow says of it."""
    key = store.keys.flow(claim.flow_id)
    head_data, header_data, other = await store.connection.command("HMGET", key, "m", "o", f"c{claim.index}")
    if head_data is None or header_data is None:
        return Standing()  # gone: what becomes of the outcome says so
    run, is_fresh = head_decoder.decode(head_data).run, header_decoder.decode(header_data).is_fresh
    if run > 1 and not is_fresh:
        earlier = await store.connection.command("HMGET", key, *(f"r{claim.index}.{number}" for number in range(1, run)))
        is_fresh = any(data is not None for data in earlier)
    return Standing(run, is_fresh, other_decoder.decode(other).looks if other else 0)


async def recall(store: Store, asking: Asking, void: bytes = b"") -> Known | Mark | None:
    """An earlier result; or the stage that computes it now, and is waited for; or None: from now on the asking stage does.

    Args:
        store: where memos are.
        asking: the stage that asks.
        void: what was answered before and does not stand: the source of a result, or a packed mark.
    """
    tag = store.keys.tag_of(asking.digest)
    own = (asking.packed_mark, asking.member)
    answer = await store.connection.run("recall", tag, asking.digest, asking.cache_ms, *own, void)
    match answer[0]:
        case b"known":
            return Known(answer[1], answer[2], answer[3])
        case b"computed":
            try:
                return _marks.decode(answer[1])
            except msgspec.DecodeError:  # damaged: nobody's
                return await recall(store, asking, answer[1])
        case _:
            return None


async def look_at(store: Store, mark: Mark) -> Known | bool:
    """What has become of a stage that computes: its result; True: it still does; False: it does not any more.

    One that was lost with its process does not, though it is ready: it may wait for long. One that will be tried again does,
    and so does one that was suspended, also when it may go on: it stands before others.
    """
    key = store.keys.flow(mark.flow_id)
    names = ("m", str(mark.index), *(f"{kind}{mark.index}" for kind in "raz"))
    head_data, record_data, result, artifacts, waits = await store.connection.command("HMGET", key, *names)
    try:
        head = head_decoder.decode(head_data or b"")
        record = record_decoder.decode(record_data or b"")
    except msgspec.DecodeError:  # gone or damaged
        return False
    if head.run != mark.run:
        return False
    if record.state == "c" and record.attempt and result:
        source = MemoSource(mark.flow_id, mark.stage, f"{record.fence}-{record.nonce}")
        return Known(result, artifacts or b"", _pack(source), record.ready_at + record.waited + record.ran)
    is_back = record.state == "s" or (record.state == "r" and waits is not None)
    return record.state in ("x", "u") or (is_back and head.status in _OPEN)


async def memorize(store: Store, asking: Asking, known: Known | None) -> None:
    """Keeps what a stage computed, None: it computed nothing; and hastens those who wait for it."""
    tag = store.keys.tag_of(asking.digest)
    kept = (
        (asking.cache_ms, known.at, known.result, known.artifacts, known.source) if known is not None else (0, 0, b"", b"", b"")
    )
    while True:
        waiting = await store.connection.run("memorize", tag, asking.digest, asking.packed_mark, *kept)
        await hasten(store, [member.decode() for member in waiting])
        if known is None or len(waiting) < _HASTENED_MAX:
            return


async def hasten_if_over(store: Store, asking: Asking, mark: Mark) -> None:
    """Hastens a stage that has just begun to wait, if what it waits for ended meanwhile: who ended it did not see it wait."""
    tag = store.keys.tag_of(asking.digest)
    known, found = await store.connection.commands(
        ("EXISTS", tag + MEMO + asking.digest), ("GET", tag + MEMO_MARK + asking.digest)
    )
    if known or found != _pack(mark):
        await hasten(store, [asking.member])


async def hasten(store: Store, members: Iterable[str]) -> None:
    """Makes stages ready that wait for what another computes."""
    by_tag: dict[str, list[str]] = {}
    for member in members:
        by_tag.setdefault(store.keys.tag_of(member.partition(":")[2]), []).append(member)
    for tag, of_tag in by_tag.items():
        await store.connection.run("hasten", tag, *of_tag)


async def spare(store: Store, flow_id: str, until_ms: int) -> None:
    """Notes that the artifacts of a flow that is about to be removed are to stay until then."""
    await store.connection.command("ZADD", store.keys.tag_of(flow_id) + SPARED, until_ms, flow_id)


async def spared_until(store: Store, tag: str, now_ms: int, most: int) -> list[str]:
    """Flows of a partition whose artifacts need not be spared any longer."""
    found: list[bytes] = await store.connection.command("ZRANGEBYSCORE", tag + SPARED, "-inf", now_ms, "LIMIT", 0, most)
    return [flow_id.decode() for flow_id in found]


async def forget_spared(store: Store, tag: str, flow_ids: list[str]) -> None:
    """Notes that they are gone."""
    if flow_ids:
        await store.connection.command("ZREM", tag + SPARED, *flow_ids)
