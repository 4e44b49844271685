"""A function whose attempt ran out of time goes on in its thread: what it has a place of is its own until it returns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import FlowProducer, limit, pipeline, stage
from flowq.errors import FlowFailed
from tests.engine.work import working

pytestmark = pytest.mark.anyio

BEGUN: list[int] = []
RELEASED = threading.Event()


def held_up(number: int) -> int:
    """The first one that is called goes on until it is released."""
    BEGUN.append(number)
    if len(BEGUN) == 1:
        RELEASED.wait(60)
    return number


@stage(queue="sk_gpu", timeout="1s")
def sk_of_queue(number: int) -> int:
    return held_up(number)


@stage(timeout="1s", limits=[limit("sk_service")])
def sk_of_option(number: int) -> int:
    return held_up(number)


@stage(timeout="1s", needs={"card": 1})
def sk_of_host(number: int) -> int:
    return held_up(number)


@stage
async def sk_step(number: int) -> int:
    return number + 1


@pipeline
def sk_meanwhile(number: int) -> int:
    return sk_step(sk_step(sk_step(number)))


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    BEGUN.clear()
    RELEASED.clear()
    yield
    RELEASED.set()


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        (sk_of_queue, "queue:sk_gpu", {}),
        (sk_of_queue, "tenant:acme", {}),
        (sk_of_queue, "", {"queues": {"sk_gpu": 1, "default": 20}}),
        (sk_of_option, "sk_service", {}),
        (sk_of_host, "", {"has": {"card": 1}}),
    ],
    ids=["limit of a queue", "limit of a tenant", "slots of a queue", "limit of a stage", "room of a host"],
)
async def test_a_place_is_free_again_when_the_function_has_returned(
    producer: FlowProducer, kind: Any, name: str, options: dict[str, Any]
) -> None:
    if name:
        await producer.set_limit(name, concurrency=1)
    first = await producer.add(kind.flow(1), tenant="acme")
    async with working(producer, kind, sk_step, **options):
        with pytest.raises(FlowFailed, match="its timeout"):
            await first.result(30)
        second = await producer.add(kind.flow(2), tenant="acme")
        assert await (await producer.add(sk_meanwhile(0))).result(30) == 3
        assert BEGUN == [1]
        RELEASED.set()
        assert await second.result(30) == 2


async def test_a_later_stage_does_not_wait_for_its_thread(producer: FlowProducer) -> None:
    async with working(producer, sk_of_queue, concurrency=1):
        first = await producer.add(sk_of_queue.flow(1))
        with pytest.raises(FlowFailed):
            await first.result(30)
        assert await (await producer.add(sk_of_queue.flow(2))).result(30) == 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [(sk_of_queue, {"queues": {"sk_gpu": 1, "default": 20}}), (sk_of_host, {"has": {"card": 1}})],
    ids=["slots of a queue", "room of a host"],
)
async def test_what_it_uses_of_the_host_is_its_own_though_its_worker_has_stopped(
    producer: FlowProducer, kind: Any, options: dict[str, Any]
) -> None:
    first = await producer.add(kind.flow(1))
    async with working(producer, kind, **options):
        with pytest.raises(FlowFailed, match="its timeout"):
            await first.result(30)
    second = await producer.add(kind.flow(2))
    async with working(producer, kind, sk_step, **options):
        assert await (await producer.add(sk_meanwhile(0))).result(30) == 3
        assert BEGUN == [1]
        RELEASED.set()
        assert await second.result(30) == 2


@pytest.mark.parametrize("is_closed", [True, False], ids=["has ended", "stands still"])
def test_what_it_used_of_the_host_is_free_again_though_its_loop(valkey_url: str, namespace: str, is_closed: bool) -> None:
    async def result_of(number: int) -> int:
        async with FlowProducer(valkey_url, namespace=namespace) as producer, working(producer, sk_of_host, has={"card": 1}):
            return await (await producer.add(sk_of_host.flow(number))).result(30)

    with contextlib.ExitStack() as runners:
        runner = runners.enter_context(asyncio.Runner())
        with pytest.raises(FlowFailed, match="its timeout"):
            runner.run(result_of(1))
        if is_closed:
            runner.close()
        RELEASED.set()
        assert asyncio.run(result_of(2)) == 2
