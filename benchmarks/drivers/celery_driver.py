"""Celery: chains with `chain`, what joins with chords; one worker process with the pool of threads, fit for stages that wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

from celery import Celery, chord, group
from celery.result import allow_join_result
from celery.worker import state
from line import KEY, STAGES, Work, talk, tally

_STOP_SECONDS = 20
# With fewer than threads, threads that begin the next task of a chain wait for each other for ever.
_CONNECTIONS_MAX = 512


class CeleryApp:
    """Celery."""

    def __init__(self, url: str, namespace: str) -> None:
        self._name = namespace
        self._app = app = Celery(namespace, broker=url, backend=url)
        app.conf.update(
            task_default_queue=namespace, worker_prefetch_multiplier=4, result_expires=60, worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True, worker_enable_remote_control=False, broker_pool_limit=_CONNECTIONS_MAX,
        )  # fmt: skip

        @app.task(name=f"{namespace}.step")
        def step(key: str) -> str:
            tally.stage(is_last=False)
            return key

        @app.task(name=f"{namespace}.end")
        def end(keys: Any) -> str:
            tally.stage(is_last=True)
            return KEY

        self._step, self._end = step, end

    async def submit(self, work: Work) -> None:
        """One after the other: there is no adding in bulk."""
        for _ in range(work.flows):
            self._flow(work).apply_async()

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker in threads of this process."""
        self._app.set_default()  # what a thread takes for the app that its tasks belong to
        controller = self._app.WorkController(
            pool_cls="threads", concurrency=work.concurrency, queues=[self._name], without_gossip=True, without_mingle=True,
            without_heartbeat=True, loglevel="ERROR",
        )  # fmt: skip
        running = threading.Thread(target=self._run, args=(controller,), daemon=True)
        running.start()
        try:
            yield
        finally:
            state.should_stop = 0  # its exit code; looked at once a second
            await asyncio.to_thread(running.join, _STOP_SECONDS)
            state.should_stop = None

    async def one(self) -> None:
        """From `apply_async` to the last one's result."""
        added = self._flow(Work()).apply_async()
        await asyncio.to_thread(_get, added)

    @staticmethod
    def _run(controller: Any) -> None:
        with contextlib.suppress(SystemExit):
            controller.start()

    def _flow(self, work: Work) -> Any:
        if work.shape == "single":
            return self._end.s(KEY)
        first = self._step.s(KEY)
        if work.shape == "chain":
            for _ in range(STAGES - 2):
                first |= self._step.s()
            return first | self._end.s()
        width = 2 if work.shape == "diamond" else work.width
        return first | chord(group(self._step.s() for _ in range(width)), self._end.s())


def _get(added: Any) -> None:
    with allow_join_result():  # the worker is in this process, so Celery takes this for a task
        added.get(timeout=30)


if __name__ == "__main__":
    talk(CeleryApp, ("celery", "kombu", "redis", "hiredis"))
