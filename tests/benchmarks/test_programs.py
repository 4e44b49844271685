"""The programs beside the harness, run as people run them, only smaller: each must still work, and say what it is for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def said_by(program: str, *words: str) -> str:
    """What a program prints."""
    run = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{program}", *words],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
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
    said = said_by("scaling", "--quick", "--serves", "2")
    rows = [line.split() for line in said.splitlines() if line.endswith("GB")]
    servers, workers = [[int(row[column].replace(",", "")) for row in rows] for column in (2, 3)]
    assert [row[:2] for row in rows] == [["1,000", "all"], ["1,000", "2"], ["20,000", "all"], ["20,000", "2"]]
    assert servers[1] <= servers[0] < servers[2] >= servers[3]
    assert workers[0] == workers[1] < workers[2] == workers[3]
