"""The programs beside the harness, run as people run them, only smaller: each must still work, and say what it is for."""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.contestants import PROFILER
from benchmarks.install import CACHE, missing
from benchmarks.profiling import part_of
from benchmarks.simulation import Costs, played, sized

ROOT = Path(__file__).resolve().parents[2]


def ran(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program that has ended."""
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", *words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def said_by(program: str, *words: str) -> str:
    """What a program prints."""
    run = ran(program, *words)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.story
@pytest.mark.timeout(300)
def test_chains_run_on_one_server_and_on_clusters() -> None:
    said = said_by("nodes", "--quick")
    assert len(re.findall("master", said)) == 3  # CLUSTER NODES
    assert all(place in said for place in ("one server, 12", "1 node, 4", "3 nodes, 12"))


@pytest.mark.story
@pytest.mark.timeout(300)
def test_a_node_joins_while_flows_run_and_none_is_lost() -> None:
    said = said_by("growing", "--quick")
    assert len(re.findall("master", said)) == 3 + 4
    assert len(re.findall(r"port \d+: 3 partitions", said)) == 4
    assert "2,000 of 2,000 completed, 0 last stages ran again" in said
    before, after = re.findall(r"([\d,]+) flows had ended before and ([\d,]+) when", said)[0]
    assert int(before.replace(",", "")) < int(after.replace(",", "")), "they ran while slots moved"


@pytest.mark.story
@pytest.mark.timeout(300)
def test_one_flow_of_a_tenant_is_served_among_many_of_another() -> None:
    said = said_by("fairness", "--flows", "200", "--tenants", "50")
    assert len(re.findall("durations of a stage at most", said)) == 3
    assert len(re.findall("claims,", said)) == 4


@pytest.mark.story
@pytest.mark.timeout(300)
def test_workers_share_a_limit_and_it_is_told_how_much_of_it_was_used() -> None:
    said = said_by("limits", "--period", "2")
    # How many fall in a window is told by the workers' clocks, which a busy machine wakes late: that is for whoever reads it.
    assert re.search(r"used: [\d.]+% of the requests, [\d.]+% of the tokens\nmost in any 2 s: \d+ requests, [\d,]+ tokens", said)


@pytest.mark.story
@pytest.mark.timeout(300)
def test_what_a_rate_takes_is_played_from_measured_costs() -> None:
    said = said_by("scaling", "--quick", "--together", "2")
    rows = [line.split() for line in said.splitlines() if line.endswith("MB")]
    servers, workers = [[int(row[column].replace(",", "")) for row in rows] for column in (2, 3)]
    assert [row[:2] for row in rows] == [["1,000", "all"], ["1,000", "2"], ["5,000", "all"], ["5,000", "2"]]
    assert servers[1] <= servers[0] < servers[2] >= servers[3]
    assert workers[0] == workers[1] < workers[2] == workers[3]


COSTS = Costs(question_us=100, call_us=200, stage_us=100, add_us=50, renew_us=50, waiting_bytes=400, completed_bytes=1_600)


def test_every_worker_asks_each_partition_once_a_second() -> None:
    load = played(COSTS, 1e-3, 50, random.Random(1))
    # 50 workers, four partitions, one question a second and 0.4 renewals.
    assert load.asked == pytest.approx(50 * 4 * (100 + 0.4 * 50) / 1e6, rel=0.1)
    assert load.busy == pytest.approx(load.asked)


def test_what_workers_do_and_what_is_added_keeps_a_server_busy() -> None:
    load = played(COSTS, 1_000, 1, random.Random(1))
    alone, all_together = 1_000 * (200 + 100 + 50 / 4) / 1e6, 1_000 * (100 + 50 / 4) / 1e6
    assert all_together < load.busy < 1.1 * alone


def test_a_namespace_whose_questions_are_too_many_is_not_borne_by_any_number_of_servers() -> None:
    all_together, apart = [sized(COSTS, 200_000, 1.0, 50, random.Random(1), together) for together in (math.inf, 8)]
    assert not all_together.is_enough
    assert all_together.load.asked > 0.5
    assert apart.is_enough
    assert apart.workers == all_together.workers


@pytest.mark.story
@pytest.mark.timeout(300)
def test_it_is_told_where_the_time_of_a_stage_goes() -> None:
    if why := missing(PROFILER, CACHE, may_install=False):
        pytest.skip(why)
    run = ran("profiling", "--flows", "1000", "--rounds", "1")
    if "where root may" in run.stderr:
        pytest.skip("nobody may watch another process here")
    told = {(where, what): float(us) for where, what, us in re.findall(r"\| (\w+) \| ([^|]+) \| ([\d.]+) \(", run.stdout)}
    for where in ("server", "Python"):
        parts = [us for (place, what), us in told.items() if place == where and what != "in all"]
        assert len(parts) > 5
        assert sum(parts) == pytest.approx(told[where, "in all"], abs=1), "nothing is left out, and nothing is counted twice"
    assert all(told["Python", part] > 0 for part in ("a run: its arguments, its call, its result", "the event loop"))


def test_a_sample_belongs_to_the_innermost_part_whose_code_runs() -> None:
    called = "<module> (run.py:1);Executor.run (flowq/engine/run/executor.py:90);packed (flowq/model/values.py:41)"
    assert part_of(called) == "a run: its arguments, its call, its result"
    assert part_of(f"{called};Store.plan (flowq/store/store.py:1)") == "packing calls, sending them, reading answers"
    assert part_of(f"{called};gc_collect_main (libpython3.11.so.1.0)") == "the collector of garbage"
    assert part_of("<module> (run.py:1);run (uvloop/__init__.py:92)") == "the event loop"
    assert part_of(f"{called};_find_and_load (<frozen importlib._bootstrap>:1176)") == ""
