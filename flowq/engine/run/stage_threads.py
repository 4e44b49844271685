"""The threads in which stages that are plain functions run.

A thread can't be killed. One whose stage was cancelled or ran out of time goes on as a *stray*, refused by its token. It
must not keep a later stage waiting for a thread; in a process of its own it is a reason to end that process. What it shares with
others, such as a place of a limit or a graphics card of the host, it has until it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

STRAYS_MAX = 32


class StageThreads:
    """Threads for `count` stages at once, and for what strays of earlier ones."""

    def __init__(self, count: int) -> None:
        # Threads are made when they are needed, so room for strays costs nothing before there are some.
        self._pool = ThreadPoolExecutor(count + STRAYS_MAX, thread_name_prefix="flowq-stage")
        self._strays: dict[Future[Any], float] = {}
        self._left_by: WeakKeyDictionary[asyncio.Task[Any], Future[Any]] = WeakKeyDictionary()
        self._was_left = False  # asked for each stage, and the dictionary's length is a call in Python

    @property
    def strays(self) -> int:
        """How many threads still run what nobody waits for any more."""
        return len(self._strays)

    @property
    def strayed_at(self) -> float:
        """Since when the oldest of them does, by `time.monotonic()`; inf: there is none."""
        return min(list(self._strays.values()), default=math.inf)

    async def run(self, function: Callable[[], T]) -> T:
        """Runs the function in a thread. When the caller is cancelled, what has begun there becomes a stray."""
        future = self._pool.submit(_contained, function)
        try:
            return await asyncio.wrap_future(future)
        finally:
            if not future.cancel() and not future.done():
                self._strays[future] = time.monotonic()
                if (task := asyncio.current_task()) is not None:
                    self._left_by[task], self._was_left = future, True
                future.add_done_callback(lambda ended: self._strays.pop(ended, None))
            del future  # it has the error, whose traceback has this frame: no circle is left behind

    def has_left(self, task: asyncio.Task[Any]) -> bool:
        """Whether what this task ran in a thread became a stray."""
        return self._was_left and task in self._left_by

    def when_over(
        self, task: asyncio.Task[Any], callback: Callable[[], object], *, in_thread: Callable[[], object] | None = None
    ) -> None:
        """Calls back, in the running loop, when the stray that this task has left behind has ended, unless the loop has ended
        before; and `in_thread` in the stray's own thread, whatever has become of the loop."""
        loop = asyncio.get_running_loop()

        def ended(_: Future[Any]) -> None:
            if in_thread is not None:
                in_thread()
            with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(callback)

        self._left_by[task].add_done_callback(ended)

    def close(self) -> None:
        """Lets go of the threads; what runs in them goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _contained(function: Callable[[], T]) -> T:
    try:
        return function()
    except StopIteration as error:
        # asyncio can't carry it from a thread to its waiter, who would wait for ever.
        raise RuntimeError("the function raised StopIteration: next() found nothing") from error
