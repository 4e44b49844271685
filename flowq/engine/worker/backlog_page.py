"""`/backlog` of a worker: what there is to do, for autoscalers. However many ask, the server is asked once in a while only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qs

import msgspec

from flowq.errors import FlowqError, InvalidValue
from flowq.model.backlog import Backlog, backlog_of
from flowq.model.names import check_name
from flowq.store.fleet import Fleet
from flowq.store.store import Store
from flowq.store.views import Views

# A reading costs the server some milliseconds; autoscalers ask every few seconds, each on its own.
_FRESH_SECONDS = 2.0
_READ_SECONDS_MAX, _ANSWER_SECONDS_MAX = 4.0, 0.5


class BacklogPage:
    """Answers requests for `/backlog` and `/backlog?queue=NAME`.

    Args:
        store: whose queues.
        clock: gives seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._read: tuple[float, Backlog] | None = None
        self._reading = asyncio.Lock()

    async def answer(self, query: str) -> tuple[int, bytes]:
        """The status and the JSON for a query: `queue=gpu`, or none for all queues."""
        try:
            queue = _queue_in(query)
        except (InvalidValue, ValueError):
            return 400, _json({"error": "ask for all queues, or for one: /backlog?queue=NAME"})
        try:
            async with asyncio.timeout(_READ_SECONDS_MAX):
                backlog = await self._fresh()
        except TimeoutError:
            return 503, _json({"error": await self._why_late()})
        except FlowqError as error:
            return 503, _json({"error": error.problem})
        if queue is not None:
            return 200, _json({"namespace": backlog.namespace, "queue": queue, **msgspec.structs.asdict(backlog.of(queue))})
        every = msgspec.structs.asdict(backlog.every)
        return 200, _json({"namespace": backlog.namespace, **every, "queues": backlog.queues})

    async def _fresh(self) -> Backlog:
        async with self._reading:
            if self._read is None or self._clock() - self._read[0] >= _FRESH_SECONDS:
                known = await Fleet(self._store, Views(self._store)).queues()
                self._read = (self._clock(), backlog_of(self._store.keys.namespace, known.queues, is_complete=known.is_complete))
            return self._read[1]

    async def _why_late(self) -> str:
        """Why a reading took too long: there is very much to read, or the server does not answer at all."""
        with suppress(TimeoutError, FlowqError):
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                await Views(self._store).now()
            return f"reading the queues took longer than {_READ_SECONDS_MAX:g} s"
        return "the server does not answer"


def _queue_in(query: str) -> str | None:
    asked = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query))
    if asked.keys() - {"queue"}:
        raise InvalidValue("query", query, "queue=NAME")
    (queue,) = asked.get("queue", [None])
    return None if queue is None else check_name(queue, "queue")


def _json(answer: object) -> bytes:
    return msgspec.json.encode(answer)
