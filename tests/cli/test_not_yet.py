"""What can't be done to a flow yet is said so: a retry before its end, its removal before that of its hooks."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.conftest import FLOWS
from tests.cli.gate import Gate
from tests.cli.terminal import Ran

Run = Callable[..., Ran]


def test_a_retry_of_a_flow_that_runs_says_that_it_has_not_ended(run: Run, gate: Gate) -> None:
    assert run("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", "--id", "not-yet").code == 0
    with gate.arrival() as stage:
        ran = run("retry", "not-yet")
        assert (ran.code, ran.err) == (0, "not-yet: it is running: what failed can be retried once it has ended\n")
        data = json.loads(run("retry", "not-yet", "-o", "json").out)["data"]
        assert data == {"id": "not-yet", "stages": 0, "state": "running"}
        ran = run("retry", "not-yet", "--from", "wait*")
        assert (ran.code, ran.err) == (0, "not-yet: it is running: what failed can be retried once it has ended\n")
        for more in ((), ("--set", "path=/other")):
            ran = run("retry", "not-yet", "--from", "nope", *more)
            assert (ran.code, "nope" in ran.err, "once it has ended" in ran.err) == (3, True, False), ran
        stage.sendall(b"done")
    assert run("watch", "not-yet").code == 0
    assert run("retry", "not-yet").err == "not-yet: nothing to retry\n"


def test_other_arguments_for_a_flow_that_runs_are_refused_because_it_has_not_ended(run: Run, gate: Gate) -> None:
    assert run("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", "--id", "not-set").code == 0
    with gate.arrival() as stage:
        ran = run("retry", "not-set", "--set", "path=/other")
        told = "flowq: --set is 'path'\n  → expected a flow that has ended: 'not-set' is running\n"
        assert (ran.code, ran.err) == (2, told)
        stage.sendall(b"done")
    assert run("watch", "not-set").code == 0
    ran = run("retry", "not-set", "--set", "path=/other")
    assert (ran.code, "stages to give them to: those that failed" in ran.err, "from_stage" in ran.err) == (2, True, False), ran


def test_a_flow_whose_hooks_have_not_ended_stays_and_prune_says_why(run: Run) -> None:
    assert run("submit", f"{FLOWS}:unswept", "-i", "text=a", "--id", "unswept", "--wait").code == 0
    assert run("prune", "--search", "unswept", "--yes").err == "0 flows removed; 1 stays until its hooks have ended\n"
    assert json.loads(run("prune", "--search", "unswept", "--yes", "-o", "json").out)["data"]["held"] == ["unswept"]
    assert run("cancel", "unswept^end").code == 0
    assert run("prune", "--search", "unswept", "--yes").err == "1 flow removed\n"
