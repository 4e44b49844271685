"""`flowq bench` measures a real server and leaves nothing there."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from flowq import FlowHandle, FlowProducer
from flowq.cli import measuring as measuring_module
from flowq.cli.measuring import key_of, when_done, within_99_of_100
from flowq.cli.usage import FlowsLost
from flowq.engine.backend import Backend
from flowq.settings import Settings
from flowq.store.connection import Connection
from flowq.store.emptying import remove_namespace
from tests.cli.terminal import PATIENCE_SECONDS, ROOT, Ran, environment
from tests.clusters import Cluster
from tests.engine.waiting import eventually
from tests.servers import running_valkey

Run = Callable[..., Ran]
SMALL = ("--flows", "40", "--alone", "5", "--concurrency", "10")


def test_bench_shows_rates_latency_and_memory(run: Run) -> None:
    ran = run("bench", *SMALL)
    assert ran.code == 0, ran
    assert [line.split("  ")[0] for line in ran.out.splitlines()[1:]] == [
        "submit", "run, 10 at once", "submit and run", "one alone, median", "one alone, slowest", "memory, waiting",
        "memory, completed",
    ]  # fmt: skip
    told = r"5 chains of four stages one by one, then 40 at once, in the namespace [a-z0-9]+-bench[0-9a-f]{8};"
    assert re.search(told, ran.err), ran.err
    assert "flowq: 1 chain of four stages, then" in run("bench", "--flows", "1", "--alone", "1").err


def test_within_what_time_99_of_100_are_is_said_where_it_is_known() -> None:
    assert within_99_of_100(range(1, 100)) is None
    assert [within_99_of_100(range(1, count + 1)) for count in (100, 200, 250)] == [99, 198, 248]


def test_bench_tells_programs_the_same(run: Run) -> None:
    document = json.loads(run("bench", *SMALL, "-o", "json").out)
    assert document["kind"] == "bench"
    data = document["data"]
    assert (data["flows"], data["concurrency"]) == (40, 10)
    assert data["run"] > 0
    assert data["alone_p99_ms"] is None
    assert data["alone_max_ms"] >= data["alone_p50_ms"] > 0


def test_bench_leaves_nothing_behind(run: Run, valkey_url: str) -> None:
    assert run("bench", *SMALL).code == 0
    with redis.Redis.from_url(valkey_url) as client:
        assert list(client.scan_iter(match="{*-bench*", count=10_000)) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--flows", "0"], "--flows is 0"),
        (["-c", "0"], "--concurrency is 0"),
        (["-c", "-3"], "--concurrency is -3"),
        (["-c", "100000"], "--concurrency is 100000"),
    ],
)
def test_bench_refuses_what_can_not_be_measured_before_it_begins(run: Run, words: list[str], told: str) -> None:
    ran = run("bench", *words)
    assert ran.code == 2
    assert ran.err.startswith(f"flowq: {told}\n  → expected a whole number from 1")


def test_bench_without_a_server_says_so(run: Run) -> None:
    ran = run("bench", env={"FLOWQ_URL": "redis://127.0.0.1:1"})
    assert ran.code == 4


def test_bench_of_a_user_who_may_not_look_through_the_keys_is_refused_before_it_writes_flows(run: Run) -> None:
    with running_valkey() as url, redis.Redis.from_url(url, decode_responses=True) as client:
        client.execute_command("ACL", "SETUSER", "default", "-scan")
        ran = run("bench", *SMALL, env={"FLOWQ_URL": url})
        assert ran.code == 4, ran
        assert "scan" in ran.err
        assert client.keys("*") == []
        assert "zadd" not in client.info("commandstats")


RULES = Path(ROOT / "docs/how-to/deploy.md").read_text("utf-8").split("| producers and workers | `")[1].split("`")[0]


def test_bench_of_a_user_with_the_rights_that_are_told_runs_within_the_namespace_of_that_user(run: Run) -> None:
    with running_valkey() as url, redis.Redis.from_url(url, decode_responses=True) as client:
        client.set("{flowq}:of-the-user", 1)
        client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *RULES.split())
        own = {"FLOWQ_URL": url.replace("unix://", "unix://limited:pw@"), "FLOWQ_NAMESPACE": "flowq"}
        for words, name in (((), "flowq-bench"), (("-n", "flowq-media"), "flowq-media-bench")):
            ran = run("bench", *SMALL, *words, env=own)
            assert ran.code == 0, ran
            assert f"in the namespace {name}" in ran.err
        refused = run("bench", *SMALL, "-n", "another", env=own)
        assert (refused.code, "grant this user the keys" in refused.err) == (4, True), refused
        assert client.keys("*") == ["{flowq}:of-the-user"]


def test_bench_refuses_a_namespace_that_leaves_no_room_for_its_own(run: Run) -> None:
    ran = run("bench", *SMALL, "-n", "n" * 52)
    assert ran.code == 2, ran
    assert ran.err.startswith(
        f"flowq: the namespace '{'n' * 52}' leaves no room for one that begins with it\n  → give one of at most 50 "
    )


@contextmanager
def measuring(url: str) -> Iterator[tuple[Any, Any]]:
    """A command that is about to run its 3,000 flows, which are all there; and a client of the server."""
    words = [sys.executable, "-m", "flowq", "bench", "--flows", "3000", "--alone", "1", "-c", "5"]
    process = subprocess.Popen(words, env=environment({"FLOWQ_URL": url}), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    client: Any = redis.Redis.from_url(url)
    try:
        eventually(lambda: any(client.zcard(key) >= 2_900 for key in client.scan_iter(match="{flowq-bench*}:live", count=10_000)))
        yield process, client
    finally:
        process.kill()
        process.wait()
        client.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_bench_that_is_interrupted_leaves_nothing_behind(number: signal.Signals) -> None:
    with running_valkey() as url, measuring(url) as (process, client):
        client.set("{flowq-bench}:of-others", 1)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, err.splitlines()[1:]) == (130, ["flowq: interrupted"])
        assert client.keys("*") == [b"{flowq-bench}:of-others"]


def test_bench_ends_when_the_server_has_lost_the_flows() -> None:
    with running_valkey() as url, measuring(url) as (process, client):
        client.unlink(*client.keys("*"))
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 1
        assert re.search(r"^flowq: [\d,]+ of 3,000 flows are gone: the server has lost them, or", err, re.MULTILINE), err
        assert "Traceback" not in err
        assert client.keys("{flowq-bench*") == []


@pytest.mark.anyio
@pytest.mark.parametrize("moment", ["_instance", "add", "added", "result", "bulk"])
async def test_bench_says_the_same_whenever_the_server_loses_its_data(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look at the namespace, before and after the add of a chain, after its result, after that of the last."""
    add, result, bulk, instance = FlowProducer.add, FlowHandle.result, FlowProducer.add_bulk, measuring_module._instance
    added, lost = 0, list[str]()

    def lose(now: str) -> None:
        if now == moment and not lost and (added == 10 or now in ("_instance", "bulk")):
            lost.append(now)
            client.unlink(*client.keys("*"))

    async def adding(*args: Any, **options: Any) -> Any:
        nonlocal added
        added += 1
        lose("add")
        flow = await add(*args, **options)
        lose("added")
        return flow

    async def after(now: str, call: Callable[..., Any], *args: Any) -> Any:
        answer = await call(*args)
        lose(now)
        return answer

    monkeypatch.setattr(FlowProducer, "add", adding)
    monkeypatch.setattr(FlowHandle, "result", lambda *args: after("result", result, *args))
    monkeypatch.setattr(FlowProducer, "add_bulk", lambda *args: after("bulk", bulk, *args))
    monkeypatch.setattr(measuring_module, "_instance", lambda *args: after("_instance", instance, *args))
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        settings = Settings.load(url=url, namespace="flowq-bench")
        with pytest.raises(FlowsLost, match="are gone: the server has lost them, or"):
            await measuring_module.measure(settings, flows=50, alone=1, concurrency=5)
        assert lost == [moment]
        assert client.keys("*") == []


@pytest.mark.anyio
async def test_chains_are_counted_and_not_the_runs_of_their_last_stage(valkey_url: str, namespace: str) -> None:
    def as_if_it_ran_often(key: str) -> None:
        if key == key_of(0):
            for _ in range(20):
                measuring_module._when_done[-1](key)

    settings = Settings.load(url=valkey_url, namespace=namespace)
    backend = await Backend.open(settings, name="test", with_storage=False)
    try:
        async with FlowProducer(settings=settings) as producer:
            await producer.add_bulk(measuring_module.chain(key_of(number)) for number in range(20))
            with when_done(as_if_it_ran_often):
                await measuring_module._run(settings, backend, 20, 1)
            assert len(await producer.list(state="completed")) == 20
    finally:
        await backend.close()


@pytest.mark.anyio
async def test_a_namespace_is_removed_from_all_nodes_and_no_other(cluster: Cluster) -> None:
    own, other = [f"{{gone:{number}}}:f:a" for number in range(30)], [f"{{gone2:{number}}}:f:a" for number in range(30)]
    connection = Connection(cluster.url)
    try:
        await connection.commands(*(("SET", key, 1) for key in [*own, *other, "{gone}:meta"]))
        await remove_namespace(connection, "gone")
        assert await connection.commands(*(("EXISTS", key) for key in [*own, "{gone}:meta"])) == [0] * 31
        assert await connection.commands(*(("EXISTS", key) for key in other)) == [1] * 30
        await remove_namespace(connection, "gone2")
    finally:
        await connection.close()
