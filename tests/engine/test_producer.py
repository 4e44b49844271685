"""The producer: adding, finding, listing, durability, and refusals before anything is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq import Artifact, FlowProducer, Node, pipeline, stage
from flowq.errors import (
    AmbiguousFlowId,
    DefinitionError,
    DurabilityUnavailable,
    FlowConflict,
    FlowNotFound,
    FlowqError,
    InvalidValue,
    NotAFlow,
    ServerNotConfigured,
    StorageNotConfigured,
)
from flowq.settings import Settings
from tests.engine.work import outcome, working
from tests.servers import running_valkey
from tests.store.acting import everything

pytestmark = pytest.mark.anyio


@stage
async def echo(value: Any) -> Any:
    return value


@pipeline
def twice(value: Any) -> Any:
    return echo(echo(value))


@stage
async def doubled(number: int) -> int:
    return 2 * number


@stage
async def named(number: int) -> str:
    return str(number)


@pipeline
def wired_wrong() -> int:
    return doubled(named(1))  # type: ignore[arg-type]


@pipeline
def broken() -> Any:
    return echo({}["height"])


async def test_adding_again_gives_the_same_flow(producer: FlowProducer) -> None:
    first = await producer.add(twice(1), id="short:42")
    again = await producer.add(twice(1), id="short:42")
    assert (first.id, again.id, first.is_new, again.is_new) == ("short:42", "short:42", True, False)
    with pytest.raises(FlowConflict):
        await producer.add(twice(2), id="short:42")


async def test_a_conflict_says_what_is_other(producer: FlowProducer) -> None:
    await producer.add(twice(1), id="short:42")
    with pytest.raises(FlowConflict, match="'short:42' is taken by a flow with other inputs: value;") as conflict:
        await producer.add(twice(1.0), id="short:42")
    assert conflict.value.flow_id == "short:42"
    with pytest.raises(FlowConflict, match="'short:42' is taken by a flow of pipeline 'twice';"):
        await producer.add(echo.flow(1), id="short:42")
    with pytest.raises(FlowConflict, match="of pipeline 'twice'"):
        await producer.add_bulk(echo.flow(1).with_options(id=flow_id) for flow_id in ("fine", "short:42", "fine:2"))
    assert await producer.find("fine:2") == "fine:2", "the others of a call are added"


async def test_ids_are_made_up_when_none_is_given(producer: FlowProducer) -> None:
    flows = [await producer.add(twice(1)) for _ in range(5)]
    assert len({flow.id for flow in flows}) == 5
    assert all(len(flow.id) == 16 and flow.id[0].isalpha() for flow in flows)


async def test_many_flows_are_added_from_any_iterable(producer: FlowProducer) -> None:
    flows = await producer.add_bulk(echo.flow(number).with_options(id=f"n{number}") for number in range(600))
    assert [flow.id for flow in flows] == [f"n{number}" for number in range(600)]
    async with working(producer, echo):
        assert [await flow.result(30) for flow in flows] == list(range(600))


async def test_flows_before_the_refused_one_of_a_bulk_are_added(producer: FlowProducer) -> None:
    await producer.add(echo.flow("other"), id="taken")
    ids = [f"n{number}" for number in range(300)]
    specs = [echo.flow(1).with_options(id=flow_id) for flow_id in [*ids[:260], "taken", *ids[260:]]]
    with pytest.raises(FlowConflict, match="taken"):
        await producer.add_bulk(specs)
    known = [flow_id for flow_id in ids[:250] if await producer.find(flow_id)]
    assert len(known) == 250


async def test_a_bulk_that_was_refused_can_be_made_again(producer: FlowProducer) -> None:
    def flows(spoilt: bool) -> Iterator[Any]:
        for number in range(300):
            yield None if spoilt and number == 270 else echo.flow(number).with_options(id=f"n{number}")

    with pytest.raises(NotAFlow):
        await producer.add_bulk(flows(spoilt=True))
    assert len(await producer.list(limit=500)) == 270, "all before the one that was refused"
    added = await producer.add_bulk(flows(spoilt=False))
    assert [flow.id for flow in added] == [f"n{number}" for number in range(300)]
    assert [flow.is_new for flow in added].count(True) == 30


@pytest.mark.parametrize("flows", [echo.flow(1), {"name": "echo"}, None, "echo", 5])
async def test_what_is_no_list_of_flows_is_refused(producer: FlowProducer, flows: Any) -> None:
    with pytest.raises(InvalidValue, match="one flow is added with `add`"):
        await producer.add_bulk(flows)


@pytest.mark.parametrize(
    "filters",
    [{"state": "bogus"}, {"state": ""}, {"limit": 0}, {"limit": -1}, {"limit": True}, {"limit": 1.5}, {"since_ms": "now"}],
)
async def test_a_filter_that_means_nothing_is_refused(producer: FlowProducer, filters: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(filters))):
        await producer.list(**filters)


@pytest.mark.parametrize("method", ["list", "retry", "cancel", "prune", "dead"])
async def test_a_filter_that_there_is_none_of_is_refused_and_nothing_is_done(producer: FlowProducer, method: str) -> None:
    await producer.add(echo.flow(1))
    with pytest.raises(TypeError, match="flows are not filtered by tags; they are by state, pipeline, tenant, tag"):
        await getattr(producer, method)(tenant="acme", tags=["eu"])


async def test_an_option_of_a_flow_that_there_is_none_of_is_refused_and_nothing_is_added(producer: FlowProducer) -> None:
    mistaken: Any = {"idd": "x"}
    with pytest.raises(TypeError, match="a flow has no option idd; it has id, tenant, tags"):
        await producer.add(echo.flow(1), **mistaken)
    with pytest.raises(TypeError, match="a flow has no option idd; it has id, tenant, tags"):
        echo.flow(1).with_options(**mistaken)
    assert await producer.list() == []


async def test_a_release_without_stages_is_no_worker_that_has_none(producer: FlowProducer) -> None:
    with pytest.raises(DefinitionError, match=r"there is no stage to run; give pipelines=\[…\] or stages=\[…\]"):
        await producer.check()


async def test_a_graph_of_nodes_and_a_mapping_run_like_a_pipeline(producer: FlowProducer) -> None:
    leaf = Node("echo", data={"value": 20})
    nodes = await producer.add(Node("echo", data={"value": leaf}))
    mapping = await producer.add({"name": "echo", "data": {"value": 21}})
    async with working(producer, echo):
        assert await nodes.result(30) == 20
        assert await mapping.result(30) == 21


@pytest.mark.parametrize(
    "call",
    [
        lambda producer: producer.add(twice(object())),
        lambda producer: producer.add(echo),
        lambda producer: producer.add(None),
        lambda producer: producer.add({}),
        lambda producer: producer.add(wired_wrong()),
        lambda producer: producer.add(broken()),
        lambda producer: producer.add(twice(1), id=""),
        lambda producer: producer.add(twice(1), id="a{b}"),
        lambda producer: producer.add(twice(1), id="x" * 257),
        lambda producer: producer.add(twice(1), priority=1.5),
        lambda producer: producer.add(twice(1), priority=10**7),
        lambda producer: producer.add(twice(1), tags="beta"),
        lambda producer: producer.add(twice(1), tenant="a b"),
        lambda producer: producer.add(twice("x" * 70_000)),
    ],
)
async def test_bad_input_is_refused_with_a_typed_error_and_nothing_is_written(producer: FlowProducer, call: Any) -> None:
    before = await everything(producer._open.store)
    with pytest.raises(FlowqError) as refusal:
        await call(producer)
    assert len(str(refusal.value)) < 500
    assert await everything(producer._open.store) == before


async def test_what_ran_here_instead_of_being_added_is_named(producer: FlowProducer) -> None:
    ran = echo(1)
    with pytest.raises(NotAFlow, match=r"echo\.flow"):
        await producer.add(ran)
    ran.close()  # type: ignore[attr-defined]


async def test_flows_are_listed_by_what_is_known_of_them(producer: FlowProducer) -> None:
    await producer.add(echo.flow(1), id="one", tenant="acme", tags=["beta"])
    await producer.add(twice(2), id="two")
    done = await producer.add(echo.flow(3), id="three", priority=5)
    await (await producer.add(echo.flow(4), id="four")).cancel()
    async with working(producer, echo, concurrency=1):
        await asyncio.gather(*(outcome(producer.flow(flow_id)) for flow_id in ("one", "two", done.id)))
    for wanted, ids in (
        ({}, {"one", "two", "three", "four"}),
        ({"state": "completed"}, {"one", "two", "three"}),
        ({"state": "cancelled"}, {"four"}),
        ({"pipeline": "twice"}, {"two"}),
        ({"tenant": "acme"}, {"one"}),
        ({"tag": "beta"}, {"one"}),
        ({"search": "o"}, {"one", "two", "four"}),
        ({"since_ms": 2**45}, set()),
    ):
        assert {flow.id for flow in await producer.list(**wanted)} == ids, wanted  # type: ignore[arg-type]
    assert len(await producer.list(limit=2)) == 2


async def test_more_flows_than_a_page_are_all_listed(producer: FlowProducer) -> None:
    await producer.add_bulk(echo.flow(number).with_options(id=f"n{number}") for number in range(450))
    assert len(await producer.list(limit=1_000)) == 450
    async with working(producer, echo):
        await asyncio.gather(*(producer.flow(f"n{number}").result(30) for number in range(450)))
    assert len(await producer.list(limit=1_000)) == len(await producer.list(state="completed", limit=1_000)) == 450


async def test_an_id_is_found_by_its_beginning(producer: FlowProducer) -> None:
    for flow_id in ("video-1", "video-12", "audio-1"):
        await producer.add(echo.flow(flow_id), id=flow_id)
        added_at = (await producer.flow(flow_id).inspect()).created_at
        while (await producer.flow(flow_id).inspect()).at == added_at:  # the newest is told by the millisecond
            pass
    assert await producer.find("video-1") == "video-1", "an exact id wins"
    assert await producer.find("audio") == "audio-1"
    assert await producer.find("latest") == "audio-1"
    with pytest.raises(AmbiguousFlowId, match="video-12"):
        await producer.find("video")
    with pytest.raises(FlowNotFound):
        await producer.find("text")


async def test_latest_of_nothing_is_not_found(producer: FlowProducer) -> None:
    with pytest.raises(FlowNotFound):
        await producer.find("latest")


async def test_durability_is_refused_by_a_server_that_can_not_keep_it(valkey_url: str, anyio_backend: str) -> None:
    with pytest.raises(DurabilityUnavailable, match="appendonly no"):
        async with FlowProducer(valkey_url, namespace="durable", durability="fsync"):
            pass
    with running_valkey({"appendonly": "yes", "appendfsync": "everysec"}) as url:
        with pytest.raises(DurabilityUnavailable, match="everysec"):
            async with FlowProducer(url, durability="fsync"):
                pass
    with running_valkey({"appendonly": "yes", "appendfsync": "always"}) as url:
        async with FlowProducer(url, durability="fsync") as producer:
            assert (await producer.add(echo.flow(1))).is_new
    with pytest.raises(InvalidValue, match="durability"):
        FlowProducer(valkey_url, durability="always")


async def test_a_producer_that_is_not_open_says_how_to_open_it(valkey_url: str) -> None:
    producer = FlowProducer(valkey_url)
    with pytest.raises(InvalidValue, match="async with"):
        await producer.add(echo.flow(1))
    await producer.close()
    async with producer:
        with pytest.raises(InvalidValue, match="open already"):
            await producer.__aenter__()
    with pytest.raises(InvalidValue, match="async with"):
        await producer.list()
    with pytest.raises(InvalidValue, match="async with"):
        producer.flow("a")


async def test_storage_that_is_not_configured_is_said_so(valkey_url: str, namespace: str, anyio_backend: str) -> None:
    async with FlowProducer(valkey_url, namespace=namespace, artifacts="") as producer:
        with pytest.raises(StorageNotConfigured, match="FLOWQ_ARTIFACTS"):
            await producer.upload(b"data", "name.bin")


async def test_an_uploaded_file_is_an_input_like_any_other(producer: FlowProducer, tmp_path: Path) -> None:
    @stage
    def size(source: Artifact) -> int:
        with source.local() as path:
            return path.stat().st_size

    (tmp_path / "clip.bin").write_bytes(b"x" * 1234)
    artifact = await producer.upload(tmp_path / "clip.bin")
    async with working(producer, size):
        assert await (await producer.add(size.flow(artifact))).result(30) == 1234


async def test_without_a_url_nobody_makes_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, anyio_backend: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWQ_URL", raising=False)
    with pytest.raises(ServerNotConfigured):
        async with FlowProducer(settings=Settings()):
            pass
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  of one empty directory


@pytest.mark.parametrize(
    "url", ["redis:/x", "http://localhost", "redis://h:70000", "redis://h:abc", "redis://h/x", "unix://", "", " "]
)
async def test_a_url_that_can_not_be_one_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, anyio_backend: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FlowqError):
        async with FlowProducer(url):
            pass


@pytest.mark.parametrize("given", [{"url": 5}, {"artifacts": 5}, {"artifacts": "gs://bucket"}, {"namespace": "a b"}])
def test_a_producer_that_can_not_be_is_refused_when_it_is_made(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(given))):
        FlowProducer(**given)


@pytest.mark.usefixtures("impatient")
async def test_no_error_shows_a_password(anyio_backend: str) -> None:
    with pytest.raises(FlowqError) as refusal:
        async with FlowProducer("redis://user:s3cr:e@t@127.0.0.1:1/0"):
            pass
    assert "s3cr" not in str(refusal.value)
    assert "e@t" not in str(refusal.value)
