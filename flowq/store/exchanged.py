"""Reads the answer of the exchange script. It is given once, so one damaged entry must not cost the others of the same answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, TypeVar, cast

from flowq.errors import CorruptState
from flowq.model.exchanged import Exchanged, House, Verdict
from flowq.model.outcome import Claim, Token

T = TypeVar("T")

# Before the name of a queue that is bound (scripts/bounds.lua). No tenant's begins with it.
_QUEUE = b"="

log = logging.getLogger("flowq.store")


def exchanged_of(answer: Any, nonce: str) -> Exchanged:
    """The answer, typed; entries that can't be read are logged and left out.

    Args:
        answer: as the script gave it.
        nonce: that of the call, which is half of each claim's token.
    """
    _, now, next_due_at, verdicts, claims, cancelled, closing, (gated, *permitted), *looked = answer
    return Exchanged(
        now,
        next_due_at,
        [Verdict(position, word.decode(), _shown(by)) for position, word, by in verdicts],
        _readable("a claim", claims, lambda parts: _claim(parts, nonce, now)),
        _readable("a stage that was cancelled", cancelled, _cancelled),
        _readable("what is to be closed", closing[1::2], lambda member: str(member.decode())),
        [_waiting(what) for what in gated if not what.startswith(_QUEUE)],
        {position: _shown(tenant) for position, tenant in permitted},
        [_shown(queue[1:]) for queue in gated if queue.startswith(_QUEUE)],
        House(*looked[0]) if looked else None,
    )


def _readable(what: str, entries: Iterable[Any], read: Callable[[Any], T]) -> list[T]:
    found: list[T] = []
    for entry in entries:
        try:
            found.append(read(entry))
        except (ValueError, TypeError, AttributeError) as error:  # bytes that are no text, or something else than bytes
            log.error("%s", CorruptState(_flow_of(entry), what, str(error)))
    return found


def _flow_of(entry: Any) -> str:
    flow_id: object = cast("list[object]", entry)[0] if isinstance(entry, list) and entry else cast("object", entry)
    return _shown(flow_id) if isinstance(flow_id, bytes) else str(flow_id)


def _claim(parts: Any, nonce: str, now: int) -> Claim:
    # See scripts/carried.lua.
    flow_id, index, plan, fence, attempt, crashes, priority, created_at, literals, *more = parts
    route, deadline_at, opened_at, is_cut, *results = more
    return Claim(
        # What names the plan or the route may be damaged and the claim still be answered: there is no such plan, so the
        # stage fails with CorruptState, and its flow is not stuck.
        flow_id.decode(), index, _named(plan or b""), Token(fence, nonce), attempt, crashes, priority, created_at, literals,
        None if is_cut else dict(zip(results[::2], results[1::2], strict=True)), _named(route),
        deadline_at - now if deadline_at else None, opened_at,
    )  # fmt: skip


def _cancelled(parts: Any) -> tuple[str, int, int, str]:
    flow_id, index, fence, nonce = parts
    return flow_id.decode(), index, fence, nonce.decode()


def _waiting(what: bytes) -> tuple[str, str]:
    tenant, _, queue = _shown(what).partition(" ")
    return tenant, queue


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


# Plans and routes, of which there are few: the text is made once.
_named = lru_cache(1_000)(_shown)
