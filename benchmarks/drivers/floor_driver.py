"""The floor: the smallest conversation that could move the same chains, so that a table says how far flowq is from the limit.

It keeps what can't be left out: a result for each stage, and the queue. It has no leases, tokens, attempts, times, events
or retries, can't be repeated safely, and loses what a dead worker held. Two calls in flight, 50 stages each, as in flowq.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import redis.asyncio as redis
from line import KEY, STAGES, Work, talk, tally

BATCH = 50
LINES = 2

_SCRIPT = """#!lua
local tag, outcomes, capacity = KEYS[1], cmsgpack.unpack(ARGV[1]), tonumber(ARGV[2])
local ready = {}
for _, outcome in ipairs(outcomes) do
  local flow, index, result, is_last = unpack(outcome)
  redis.call('HSET', tag .. ':f:' .. flow, index, result)
  if not is_last then ready[#ready + 1] = cmsgpack.pack({flow, index + 1, result}) end
end
if #ready > 0 then redis.call('RPUSH', tag .. ':q', unpack(ready)) end
return capacity > 0 and redis.call('LPOP', tag .. ':q', capacity) or {}
"""


class Floor:
    """The floor."""

    ends_with_goodbye = True

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._tag = f"{{{namespace}:floor}}"

    async def submit(self, work: Work) -> None:
        """Chains by 250; only their first stages are written."""
        async with redis.Redis.from_url(self._url, protocol=2) as client:
            for start in range(0, work.flows, 250):
                names = (f"flow{number}" for number in range(start, min(work.flows, start + 250)))
                await client.rpush(self._tag + ":q", *(msgspec.msgpack.encode((name, 0, KEY)) for name in names))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """Two lines that talk until all has ended."""
        async with redis.Redis.from_url(self._url, protocol=2) as client:
            sha = await client.script_load(_SCRIPT)
            talks = _Talks(client, sha, self._tag, work)
            async with asyncio.TaskGroup() as lines:
                for _ in range(LINES):
                    lines.create_task(talks.line())
                yield


class _Talks:
    def __init__(self, client: Any, sha: str, tag: str, work: Work) -> None:
        self._client, self._sha, self._tag = client, sha, tag
        self._left, self._free = work.flows, work.concurrency
        self._outcomes: list[tuple[str, int, str, bool]] = []
        self._stirred = asyncio.Event()
        self._in_flight = 0

    async def line(self) -> None:
        while self._left or self._outcomes:
            if not self._outcomes and (self._in_flight or not self._free):
                self._stirred.clear()
                await self._stirred.wait()
                continue
            outcomes, self._outcomes = self._outcomes[: BATCH * 4], self._outcomes[BATCH * 4 :]
            capacity = min(self._free, BATCH)
            self._free -= capacity
            self._in_flight += 1
            said = (self._sha, 1, self._tag, msgspec.msgpack.encode(outcomes), capacity)
            claims = await self._client.execute_command("EVALSHA", *said)
            self._in_flight -= 1
            self._free += capacity - len(claims)
            for claim in claims:
                asyncio.create_task(self._run(*msgspec.msgpack.decode(claim)))  # noqa: RUF006 — ends before `line` does
            self._stirred.set()

    async def _run(self, flow: str, index: int, key: str) -> None:
        is_last = index == STAGES - 1
        tally.stage(is_last=is_last)
        self._free += 1
        self._left -= is_last
        self._outcomes.append((flow, index, key, is_last))
        self._stirred.set()


if __name__ == "__main__":
    talk(Floor, ("redis", "hiredis"))
