"""Reading what may be damaged, where one damaged member must not hide the others."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeVar

import msgspec

from flowq.errors import CorruptState
from flowq.store.connection import Connection

T = TypeVar("T")

_PAGE: Final = 1_000

log = logging.getLogger("flowq.store")


def text_of(member: bytes) -> str:
    """A member as text; what is no UTF-8 is escaped, and then names nothing there is."""
    return member.decode("utf-8", "backslashreplace")


def sound(decoder: msgspec.msgpack.Decoder[T], data: bytes | None) -> T | None:
    """What is packed there; None: nothing, or rubbish."""
    try:
        return None if data is None else decoder.decode(data)
    except ValueError:  # no msgpack, of another shape, or with texts that are none
        return None


async def read_in_pages(connection: Connection, asked: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The answers to very many questions, a thousand in a round trip; None where a key is of another type."""
    pages = [asked[start : start + _PAGE] for start in range(0, len(asked), _PAGE)]
    return [answer for page in pages for answer in await connection.readable(*page)]


async def up_to_damage(pages: AsyncIterator[T], what: str) -> AsyncIterator[T]:
    """These pages, up to a key that can't be read: it costs what is kept in it, and not what the caller goes on to."""
    try:
        async for page in pages:
            yield page
    except CorruptState as damage:
        log.error("%s can't be looked through: %s", what, damage.problem)
