"""Retries by hand in the store: in one call, or, of many stages, noted in parts first and then done one part a call.

Nothing of the flow changes before all parts are noted; from then on the retry takes place even if the caller is gone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from flowq.errors import RetryOutOfTurn
from flowq.store.keys import CLOSING, STAGING
from flowq.store.portions import portions
from flowq.store.wire import Again

if TYPE_CHECKING:
    from flowq.store.connection import Connection

# Stages, maps, or arguments of one part: what a script does in some 10 ms, also if each has run twenty times.
PART_MAX = 150
# So many parts are written in one command, at most.
_PARTS_AT_ONCE = 20
_STAGED_SECONDS = 600
_ASKED_AT_ONCE = 1_000

_pack = msgspec.msgpack.Encoder().encode
Part = tuple[Sequence[Any], Sequence[Any], Sequence[Any]]


async def retry(
    connection: Connection, tag: str, flow_id: str, seq: int, again: Again, hooks_seq: int, spawner: object = None
) -> bool:
    """Makes stages of an ended flow ready again; False: it or its hooks changed since it was read, or the spawner's run is over.

    Raises:
        RetryOutOfTurn: its hooks have not ended; it is hooks, and their flow was retried; or another of its key has not ended.
    """
    whose = () if spawner is None else (_pack(spawner),)
    await _stop_stragglers(connection, tag, flow_id, again)
    while True:
        parts = list(_parts_of(again))
        first = again
        if len(parts) > 1:
            staging = await _noted(connection, tag, flow_id, parts)
            first = structs.replace(again, stages=[], literals=[], maps=[], staging=staging, parts=len(parts))
        answer = await connection.run("retry", tag, flow_id, seq, secrets.token_hex(8), _pack(first), hooks_seq, *whose)
        if answer[0] in (b"hooked", b"taken"):
            raise RetryOutOfTurn(flow_id, answer[1].decode(), is_of_its_key=answer[0] == b"taken")
        if answer[0] == b"retrying":
            await finish_retry(connection, tag, flow_id)
        if answer[0] != b"lost":
            return answer[0] in (b"retried", b"retrying")


async def finish_retry(connection: Connection, tag: str, flow_id: str) -> None:
    """Goes on with a retry that was begun; nothing if it is finished. May be done by several at once."""
    while (await connection.run("retry_more", tag, flow_id))[0] == b"retrying":
        pass


async def _stop_stragglers(connection: Connection, tag: str, flow_id: str, again: Again) -> None:
    """Stops what is left of maps that ended early, before they run again: what is suspended may wait for what came meanwhile.

    The flow has changed then, and has to be read again.
    """
    indexes = [stage.index for stage in (*again.stages, *again.maps)]
    for start in range(0, len(indexes), _ASKED_AT_ONCE):
        page = indexes[start : start + _ASKED_AT_ONCE]
        noted = await connection.command("ZMSCORE", f"{tag}{CLOSING}", *(f"*{index}:{flow_id}" for index in page))
        for index, cursor in zip(page, noted, strict=True):
            if cursor is not None:
                while (await connection.run("disband", tag, flow_id, index))[0] == b"closing":
                    pass


async def _noted(connection: Connection, tag: str, flow_id: str, parts: Sequence[Part]) -> str:
    """Writes the parts beside the flow; the key."""
    await connection.refuse_without_rights(tag)
    staging = f"{tag}{STAGING}{flow_id}:{secrets.token_hex(8)}"
    packed = enumerate(map(_pack, parts))
    for portion in portions(packed, lambda one: len(one[1]), _PARTS_AT_ONCE):
        fields = [word for one in portion for word in one]
        await connection.commands(("HSET", staging, *fields), ("EXPIRE", staging, _STAGED_SECONDS))
    return staging


def _parts_of(again: Again) -> Iterator[Part]:
    """All of it as one part, if it is small; else arguments first, and maps last, because these hand their items out."""
    of_literals = list(portions(again.literals, lambda one: memoryview(one[1]).nbytes, PART_MAX))
    if len(again.stages) + len(again.literals) + len(again.maps) <= PART_MAX and len(of_literals) <= 1:
        yield again.stages, again.literals, again.maps
        return
    for literals in of_literals:
        yield (), literals, ()
    for start in range(0, len(again.stages), PART_MAX):
        yield again.stages[start : start + PART_MAX], (), ()
    for start in range(0, len(again.maps), PART_MAX):
        yield (), (), again.maps[start : start + PART_MAX]
