"""`@resource`: built once, by the first who asks, while the others wait."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest

from flowq.errors import DefinitionError, InvalidValue
from flowq.pipeline import reset_resources, resource


def test_a_resource_is_built_when_first_asked_for_and_kept() -> None:
    built: list[int] = []

    @resource(scope="process")
    def model() -> object:
        """A model."""
        built.append(1)
        return object()

    assert built == []
    assert model() is model()
    assert built == [1]
    assert model.__doc__ == "A model."


def test_a_resource_without_options_and_one_of_none_are_built_once() -> None:
    built: list[int] = []

    @resource
    def nothing() -> None:
        built.append(1)

    nothing()
    nothing()
    assert built == [1]


def test_threads_that_ask_at_once_share_one_value() -> None:
    built: list[int] = []
    waiting = threading.Barrier(8)

    @resource
    def shared() -> object:
        built.append(1)
        return object()

    values: list[object] = []

    def ask() -> None:
        waiting.wait(10)
        values.append(shared())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert len(values) == 8
    assert len(set(map(id, values))) == 1


def test_a_builder_that_fails_is_tried_again_by_the_next_caller() -> None:
    outcomes: list[Any] = [OSError("no disk"), 3]

    @resource
    def flaky() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    with pytest.raises(OSError, match="no disk"):
        flaky()
    assert flaky() == 3


def test_a_resource_that_needs_itself_is_told_so() -> None:
    @resource
    def snake() -> object:
        return snake()

    with pytest.raises(DefinitionError, match="resource 'snake' needs itself"):
        snake()


def test_resources_may_need_each_other() -> None:
    @resource
    def device() -> str:
        return "cpu"

    @resource
    def model() -> str:
        return f"model on {device()}"

    assert model() == "model on cpu"


def test_reset_builds_anew() -> None:
    @resource
    def fresh() -> object:
        return object()

    first = fresh()
    reset_resources()
    assert fresh() is not first


def test_an_async_resource_is_built_once_for_all_who_wait() -> None:
    built: list[int] = []

    @resource
    async def pool() -> object:
        built.append(1)
        await asyncio.sleep(0)
        return object()

    async def ask() -> list[object]:
        return list(await asyncio.gather(*(pool() for _ in range(5))))

    assert len(set(map(id, asyncio.run(ask())))) == 1
    assert built == [1]


def test_a_caller_who_is_cancelled_does_not_cancel_the_build() -> None:
    async def story() -> object:
        may_finish = asyncio.Event()

        @resource
        async def pool() -> str:
            await may_finish.wait()
            return "built"

        first = asyncio.ensure_future(pool())
        second = asyncio.ensure_future(pool())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        may_finish.set()
        return await second, await pool()

    assert asyncio.run(story()) == ("built", "built")


def test_an_async_builder_that_fails_is_tried_again() -> None:
    outcomes: list[Any] = [OSError("no network"), 3]

    @resource
    async def flaky() -> int:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return int(outcome)

    async def story() -> int:
        with pytest.raises(OSError, match="no network"):
            await flaky()
        return await flaky()

    assert asyncio.run(story()) == 3


def test_a_wrong_scope_and_a_builder_with_arguments_are_refused() -> None:
    with pytest.raises(InvalidValue, match="scope is 'stage'; expected 'process'"):
        resource(scope="stage")  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="takes arguments"):
        resource(lambda name: name)  # type: ignore[call-overload]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_builds_its_own() -> None:
    @resource
    def owner() -> int:
        return os.getpid()

    assert owner() == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if owner() == os.getpid() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
