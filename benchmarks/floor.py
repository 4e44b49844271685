"""The floor: the smallest conversation that could move the same chains, so that a table says how far flowq is from the limit.

It keeps what can't be left out: a result for each stage, and the queue. It has no leases, tokens, attempts, times, events
or retries, can't be repeated safely, and loses what a dead worker held. Two calls in flight, 50 stages each, as in flowq.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import redis.asyncio as redis

from benchmarks.work import KEY, STAGES

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


async def _stage(key: str) -> str:
    return key


class _Floor:
    def __init__(self, client: Any, tag: str, flows: int, concurrency: int) -> None:
        self._client = client
        self._tag = tag
        self._left = flows
        self._free = concurrency
        self._outcomes: list[tuple[str, int, str, bool]] = []
        self._stirred = asyncio.Event()
        self._in_flight = 0

    async def line(self, sha: str) -> None:
        while self._left or self._outcomes:
            if not self._outcomes and (self._in_flight or not self._free):
                self._stirred.clear()
                await self._stirred.wait()
                continue
            outcomes, self._outcomes = self._outcomes[: BATCH * 4], self._outcomes[BATCH * 4 :]
            capacity = min(self._free, BATCH)
            self._free -= capacity
            self._in_flight += 1
            claims = await self._client.execute_command("EVALSHA", sha, 1, self._tag, msgspec.msgpack.encode(outcomes), capacity)
            self._in_flight -= 1
            self._free += capacity - len(claims)
            for claim in claims:
                flow, index, result = msgspec.msgpack.decode(claim)
                asyncio.create_task(self._run(flow, index, result))  # noqa: RUF006 — ends before `line` does
            self._stirred.set()

    async def _run(self, flow: str, index: int, key: str) -> None:
        result = await _stage(key)
        self._free += 1
        self._left -= index == STAGES - 1
        self._outcomes.append((flow, index, result, index == STAGES - 1))
        self._stirred.set()


async def run_floor(url: str, namespace: str, flows: int, concurrency: int) -> float:
    """Runs the chains; returns the seconds without their submission."""
    async with redis.Redis.from_url(url, protocol=2) as client:
        tag = f"{{{namespace}:floor}}"
        for start in range(0, flows, 250):
            ready = [msgspec.msgpack.encode((f"flow{number}", 0, KEY)) for number in range(start, min(flows, start + 250))]
            await client.rpush(tag + ":q", *ready)
        sha: str = await client.script_load(_SCRIPT)
        began = time.perf_counter()
        work = _Floor(client, tag, flows, concurrency)
        async with asyncio.TaskGroup() as lines:
            for _ in range(LINES):
                lines.create_task(work.line(sha))
        return time.perf_counter() - began
