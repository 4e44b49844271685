"""Captures what stages log, bounded: the last 200 messages and 16 kB of a run.

Every record that a logger of this process makes passes here when it is made. No handler is installed: that would turn
off Python's own last resort, and make a later `logging.basicConfig` of the program do nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from flowq.model.logs import written

LINES_MAX = 200
BYTES_MAX = 16_000
_OUR_LOGGERS = "flowq"

_lock = threading.Lock()


class StageLog:
    """What one run has logged. May be written to from any thread.

    Args:
        attempt: which attempt of the stage it is.
        on_line: called when there is something new.
    """

    __slots__ = ("_attempt", "_bytes", "_entries", "_is_told", "_lock", "_on_line")

    def __init__(self, attempt: int, on_line: Callable[[], None]) -> None:
        self._attempt = attempt
        self._on_line = on_line
        self._entries: deque[bytes] = deque(maxlen=LINES_MAX)
        self._bytes = 0
        self._is_told = False
        self._lock = threading.Lock()

    def add(self, record: logging.LogRecord) -> None:
        """Keeps a record, and drops the oldest where it is too much."""
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[0] is not None:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
        except Exception as error:  # arguments that do not fit their format: the stage must not fail for it
            text = f"{record.msg} ({type(error).__name__} in its arguments)"
        entry = written(int(record.created * 1000), self._attempt, record.levelname, text).encode()
        with self._lock:
            if len(self._entries) == LINES_MAX:
                self._bytes -= len(self._entries.popleft())
            self._entries.append(entry)
            self._bytes += len(entry)
            while self._bytes > BYTES_MAX and len(self._entries) > 1:
                self._bytes -= len(self._entries.popleft())
            is_told, self._is_told = self._is_told, True
        if not is_told:
            self._on_line()

    @property
    def text(self) -> bytes:
        """All that is kept. Until it is asked for, further lines are not announced."""
        with self._lock:
            self._is_told = False
            return b"".join(self._entries)


def capture(log_of_this_run: Callable[[], StageLog | None]) -> None:
    """From now on what is logged in a stage is kept with its run. Once a process; more calls change nothing.

    Args:
        log_of_this_run: gives the log of the run that the calling code belongs to; None: it belongs to none.
    """
    with _lock:
        before = logging.getLogRecordFactory()
        if isinstance(before, _Capturing):
            return
        logging.setLogRecordFactory(_Capturing(before, log_of_this_run))


class _Capturing:
    def __init__(self, before: Callable[..., logging.LogRecord], log_of_this_run: Callable[[], StageLog | None]) -> None:
        self._before = before
        self._log_of_this_run = log_of_this_run

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        log = self._log_of_this_run()
        if log is not None and record.name.partition(".")[0] != _OUR_LOGGERS:
            log.add(record)
        return record
