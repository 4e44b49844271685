"""`flowq bench` measures a real server and leaves nothing there."""

from __future__ import annotations

import json
from collections.abc import Callable

import redis

from tests.cli.terminal import Ran

Run = Callable[..., Ran]
SMALL = ("--flows", "40", "--alone", "5", "--concurrency", "10")


def test_bench_shows_rates_latency_and_memory(run: Run) -> None:
    ran = run("bench", *SMALL)
    assert ran.code == 0, ran
    assert [line.split("  ")[0] for line in ran.out.splitlines()[1:]] == [
        "submit", "run, 10 at once", "submit and run", "one alone, median", "one alone, 99 of 100 within", "memory, waiting",
        "memory, completed",
    ]  # fmt: skip
    assert "5 chains of four stages one by one, then 40 at once" in ran.err


def test_bench_tells_programs_the_same(run: Run) -> None:
    document = json.loads(run("bench", *SMALL, "-o", "json").out)
    assert document["kind"] == "bench"
    data = document["data"]
    assert (data["flows"], data["concurrency"]) == (40, 10)
    assert data["run"] > 0
    assert data["alone_p99_ms"] >= data["alone_p50_ms"] > 0


def test_bench_leaves_nothing_behind(run: Run, valkey_url: str) -> None:
    assert run("bench", *SMALL).code == 0
    with redis.Redis.from_url(valkey_url) as client:
        assert list(client.scan_iter(match="{bench*", count=10_000)) == []


def test_bench_refuses_to_measure_nothing(run: Run) -> None:
    ran = run("bench", "--flows", "0")
    assert ran.code == 2
    assert "--flows is 0" in ran.err


def test_bench_without_a_server_says_so(run: Run) -> None:
    ran = run("bench", env={"FLOWQ_URL": "redis://127.0.0.1:1"})
    assert ran.code == 4
