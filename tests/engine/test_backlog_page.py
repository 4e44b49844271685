"""`/backlog`: what there is to do, for autoscalers; and the manifest that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from flowq import FlowProducer, stage
from flowq.engine.worker import backlog_page
from flowq.engine.worker.backlog_page import BacklogPage
from flowq.engine.worker.health import Health
from flowq.errors import InvalidValue
from flowq.store.connection import Connection
from flowq.store.fleet import Fleet
from flowq.store.keys import ROUTES
from flowq.store.store import Store
from tests.engine.test_health import asked, free_port
from tests.engine.work import Gate, until, working
from tests.house.blocks import blocks
from tests.house.project import ROOT

pytestmark = pytest.mark.anyio

gate = Gate()
MANIFESTS = ROOT / "docs" / "how-to" / "autoscaling.md"


@stage(queue="gpu")
async def bl_waiting() -> int:
    return 1


@stage(queue="cpu")
async def bl_running() -> int:
    await gate.stop_async()
    return 1


async def page(producer: FlowProducer, query: str = "") -> Any:
    """What a fresh page answers, which must be 200."""
    status, body = await BacklogPage(producer._open.store).answer(query)
    assert status == 200, body
    return json.loads(body)


async def test_it_tells_what_waits_and_runs_of_each_queue_and_of_all(producer: FlowProducer) -> None:
    gate.close()
    for _ in range(3):
        await producer.add(bl_waiting.flow())
    flow = await producer.add(bl_running.flow())
    async with working(producer, bl_running):
        await until(flow, lambda snapshot: snapshot.stage("bl_running").state == "running")
        every, gpu, cpu = await page(producer), await page(producer, "queue=gpu"), await page(producer, "queue=cpu")
        gate.opened.set()
        await flow.result(30)
    assert (gpu["queued"], gpu["running"], gpu["total"], gpu["queue"]) == (3, 0, 3, "gpu")
    assert gpu["oldest_seconds"] > 0
    assert (cpu["queued"], cpu["running"], cpu["total"], cpu["oldest_seconds"]) == (0, 1, 1, 0)
    assert (every["queued"], every["running"], every["total"]) == (3, 1, 4)
    assert every["oldest_seconds"] > 0
    assert every["namespace"] == gpu["namespace"] == producer._settings.namespace
    assert every["queues"].keys() == {"gpu", "cpu"}
    assert every["queues"]["cpu"]["running"] == 1


async def test_a_queue_that_nobody_knows_has_nothing_to_do(producer: FlowProducer) -> None:
    answer = await page(producer, "queue=unheard-of")
    assert (answer["queued"], answer["running"], answer["total"], answer["oldest_seconds"]) == (0, 0, 0, 0)


async def test_where_not_all_queues_may_be_known_nothing_is_told_for_sure(producer: FlowProducer) -> None:
    flow = await producer.add(bl_waiting.flow())
    assert [(await page(producer, query))["is_estimate"] for query in ("", "queue=gpu", "queue=unheard-of")] == [False] * 3
    store = producer._open.store
    await store.connection.command("DEL", store.keys.tag_of(flow.id) + ROUTES)
    assert [(await page(producer, query))["is_estimate"] for query in ("", "queue=gpu", "queue=unheard-of")] == [True] * 3


async def test_all_queues_are_paused_only_if_all_are_known(producer: FlowProducer) -> None:
    flow = await producer.add(bl_waiting.flow())
    await producer.pause_queue("gpu")
    assert (await page(producer))["is_paused"]
    store = producer._open.store
    await store.connection.command("DEL", store.keys.tag_of(flow.id) + ROUTES)
    assert [(await page(producer, query))["is_paused"] for query in ("", "queue=gpu")] == [False, True]


async def test_more_workers_would_not_help_a_paused_queue(producer: FlowProducer) -> None:
    await producer.add(bl_waiting.flow())
    await producer.pause_queue("gpu")
    answer = await page(producer, "queue=gpu")
    assert (answer["queued"], answer["total"], answer["is_paused"]) == (1, 0, True)
    await producer.resume_queue("gpu")


async def test_however_many_ask_the_server_is_read_once_in_a_while(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, seconds, read = 0, 0.0, Fleet.queues

    async def counted(fleet: Fleet) -> Any:
        nonlocal readings
        readings += 1
        return await read(fleet)

    monkeypatch.setattr(Fleet, "queues", counted)
    clock: Callable[[], float] = lambda: seconds  # noqa: E731
    shared = BacklogPage(producer._open.store, clock)
    for number in range(20):
        assert (await shared.answer(f"queue=q{number}"))[0] == 200
    assert readings == 1
    seconds = 2.0
    await shared.answer("")
    assert readings == 2


@pytest.mark.parametrize("query", ["queue=", "queue=a&queue=b", "queue=two words", "quue=gpu", "gpu", "queue=%00"])
async def test_a_query_that_makes_no_sense_is_refused(producer: FlowProducer, query: str) -> None:
    status, body = await BacklogPage(producer._open.store).answer(query)
    assert (status, "queue=NAME" in json.loads(body)["error"]) == (400, True)


async def test_a_server_out_of_reach_is_no_empty_backlog() -> None:
    gone = Store(Connection("unix:///nowhere/valkey.sock", patience=0), "gone")
    status, body = await BacklogPage(gone).answer("")
    assert (status, list(json.loads(body))) == (503, ["error"])
    await gone.close()


async def test_too_much_to_read_is_told_differently_from_a_server_that_does_not_answer(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_page, "_READ_SECONDS_MAX", 0)
    status, body = await BacklogPage(producer._open.store).answer("")
    assert (status, json.loads(body)) == (503, {"error": "reading the queues took longer than 0 s"})
    monkeypatch.setattr(backlog_page, "_ANSWER_SECONDS_MAX", 0)
    status, body = await BacklogPage(producer._open.store).answer("")
    assert (status, json.loads(body)) == (503, {"error": "the server does not answer"})


async def test_it_is_answered_over_http(producer: FlowProducer) -> None:
    await producer.add(bl_waiting.flow())
    port = free_port()
    health = await Health.serve(port, lambda: True, BacklogPage(producer._open.store).answer)
    head, _, body = (await asked(port, b"GET /backlog?queue=gpu HTTP/1.1\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert json.loads(body)["queued"] == 1
    assert b" 400 Bad Request" in await asked(port, b"GET /backlog?queue= HTTP/1.1\r\n\r\n")
    health.close()


async def test_an_address_that_is_not_of_this_host_is_refused() -> None:
    with pytest.raises(InvalidValue, match="health address"):
        await Health.serve(free_port(), lambda: True, host="203.0.113.1")


async def test_what_the_manifests_read_is_what_it_answers(producer: FlowProducer) -> None:
    manifests = [
        manifest for block in blocks(MANIFESTS) if block.language == "yaml" for manifest in yaml.safe_load_all(block.text)
    ]
    scaled = [manifest for manifest in manifests if manifest["apiVersion"] == "keda.sh/v1alpha1"]
    assert {manifest["kind"] for manifest in scaled} == {"ScaledObject", "ScaledJob"}
    for manifest in scaled:
        for trigger in manifest["spec"]["triggers"]:
            wanted, url = trigger["metadata"], urlsplit(trigger["metadata"]["url"])
            assert (trigger["type"], url.path) == ("metrics-api", "/backlog")
            answer = await page(producer, url.query)
            for field in wanted["valueLocation"].split("."):
                answer = answer[field]
            assert isinstance(answer, int | float)
            assert float(wanted["targetValue"]) > 0
