"""The one loop of the engine: repeats a duty, survives its failures, tells of them once, and stops at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from flowq.engine.duties.every import BACKOFF_SECONDS_MAX, _Trouble, run_every
from flowq.errors import ServerUnreachable

_QUICKLY = 0.001


class Counting:
    """Calls `act` with the number of each run, from 1."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.runs = 0
        self._act = act

    async def run_once(self) -> None:
        self.runs += 1
        self._act(self.runs)


def run(interval: float, act: Callable[[int, asyncio.Event], None]) -> int:
    async def main() -> int:
        stop = asyncio.Event()
        duty = Counting(lambda number: act(number, stop))
        await run_every(interval, duty, stop=stop, name="the duty")
        return duty.runs

    return asyncio.run(main())


def test_a_duty_is_done_again_and_again_until_it_is_told_to_stop() -> None:
    def act(number: int, stop: asyncio.Event) -> None:
        if number == 5:
            stop.set()

    assert run(_QUICKLY, act) == 5


def test_stopping_does_not_wait_for_the_interval() -> None:
    async def main() -> int:
        stop = asyncio.Event()
        duty = Counting(lambda number: None)
        running = asyncio.create_task(run_every(100_000, duty, stop=stop, name="the duty"))
        await asyncio.sleep(0)
        stop.set()
        await running
        return duty.runs

    assert asyncio.run(main()) == 0


def test_a_failing_duty_is_tried_again_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    def act(number: int, stop: asyncio.Event) -> None:
        if number == 6:
            stop.set()
        elif number < 6:
            raise ServerUnreachable("redis://u:secret@h", "connection refused")

    with caplog.at_level(logging.INFO, "flowq.engine.duties.every"):
        assert run(_QUICKLY, act) == 6
    failed, works = [record.getMessage() for record in caplog.records]
    assert failed.startswith("the duty failed and is tried again: ServerUnreachable")
    assert "secret" not in failed
    assert works == "the duty works again after 5 failures"


def test_failures_that_keep_changing_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def act(number: int, stop: asyncio.Event) -> None:
        if number == 8:
            stop.set()
        raise OSError(f"reason {number}")

    run(_QUICKLY, act)
    assert [record.getMessage() for record in caplog.records] == ["the duty failed and is tried again: OSError: reason 1"]


def test_a_bug_in_a_duty_ends_the_loop() -> None:
    def act(number: int, stop: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(_QUICKLY, act)


def test_the_back_off_grows_and_is_capped() -> None:
    trouble = _Trouble("the duty")
    waits: list[float] = []
    for _ in range(50):
        trouble.happened(OSError())
        waits.append(trouble.backoff_seconds(0.1))
    assert waits[0] <= 0.2
    assert max(waits) <= BACKOFF_SECONDS_MAX
    assert min(waits[10:]) >= BACKOFF_SECONDS_MAX / 2
    assert trouble.backoff_seconds(60) <= 60


def test_cancelling_the_loop_cancels_the_duty() -> None:
    async def main() -> bool:
        began, was_cancelled = asyncio.Event(), False

        class Waiting:
            async def run_once(self) -> None:
                nonlocal was_cancelled
                began.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    was_cancelled = True
                    raise

        running = asyncio.create_task(run_every(_QUICKLY, Waiting(), stop=asyncio.Event(), name="the duty"))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return was_cancelled

    assert asyncio.run(main())
