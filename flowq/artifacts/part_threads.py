"""The threads that send parts of uploads: a few at once, and none that anybody has to wait for.

Not an executor of the standard library: the end of the process waits for its threads, and one that waits for a silent server
waits for minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, ParamSpec, TypeVar

from flowq.errors import StorageError

P = ParamSpec("P")
T = TypeVar("T")


class PartThreads:
    """Sends at most `most` parts at once; thread-safe."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._is_closed = False

    def start(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls the function in a thread, as soon as one may run.

        Raises:
            StorageError: these threads are closed.
        """
        outcome: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise StorageError("the artifact storage is closed", "open it again")
            self._under_way.add(outcome)
        outcome.add_done_callback(self._forget)

        def work() -> None:
            with self._free:
                if not outcome.set_running_or_notify_cancel():
                    return
                try:
                    outcome.set_result(function(*args, **kwargs))
                except BaseException as error:  # it is raised where the outcome is asked for
                    outcome.set_exception(error)

        threading.Thread(target=work, name="flowq-upload", daemon=True).start()
        return outcome

    def close(self, seconds: float) -> None:
        """Waits for what is under way, at most so long; what has not begun is cancelled."""
        with self._lock:
            self._is_closed = True
            under_way, self._under_way = self._under_way, set()
        for outcome in under_way:
            outcome.cancel()
        wait(under_way, seconds)

    def _forget(self, outcome: Future[Any]) -> None:
        with self._lock:
            self._under_way.discard(outcome)
