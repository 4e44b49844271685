"""Commands that say when a flow begins, and those that pause and resume, against a real server and a real worker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran

Run = Callable[..., Ran]


def test_a_flow_can_be_submitted_for_later_and_inspect_says_when(run: Run) -> None:
    assert run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "later", "--delay", "1h", "--deadline", "2h").code == 0
    shown = run("inspect", "later").out
    assert "SCHEDULED" in shown
    assert "begins in " in shown
    assert "deadline in " in shown
    data = json.loads(run("inspect", "later", "-o", "json").out)["data"]
    assert data["begins_at"].endswith("Z")
    assert data["graph"][0]["reason"]["code"] == "scheduled"
    assert [flow["id"] for flow in json.loads(run("list", "--state", "scheduled", "-o", "json").out)["data"]] == ["later"]
    assert run("cancel", "later").code == 0


def test_a_flow_can_be_submitted_for_a_moment(run: Run) -> None:
    words = ("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "at-a-moment", "--start-at", "2100-01-31T02:00+01:00")
    assert run(*words).code == 0
    assert json.loads(run("inspect", "at-a-moment", "-o", "json").out)["data"]["begins_at"] == "2100-01-31T01:00:00.000Z"
    assert run("cancel", "at-a-moment").code == 0


def test_a_flow_that_runs_out_of_time_says_so(run: Run) -> None:
    ran = run(
        "submit", f"{FLOWS}:waiting", "-i", "path=/nowhere", "--id", "too-late", "--delay", "1ms", "--deadline", "2ms", "--wait"
    )
    assert ran.code == 5
    assert "its deadline passed" in ran.err
    assert "its deadline passed" in run("inspect", "too-late").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--delay", "soon"], "delay"),
        (["--start-at", "tomorrow"], "--start-at"),
        (["--delay", "1h", "--start-at", "2100-01-31"], "--delay and --start-at were both given"),
        (["--deadline", "never"], "deadline"),
        (["--deadline", "2030-13-45"], "--deadline"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(run: Run, words: list[str], says: str) -> None:
    ran = run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "never-added", *words)
    assert ran.code == 2
    assert says in ran.err
    assert run("inspect", "never-added").code == 3


def test_a_queue_is_paused_and_resumed(run: Run) -> None:
    assert run("pause").err == "no queue, pipeline or flow is paused; of flows that stages spawned `flowq inspect` tells\n"
    assert run("pause", "queue", "slow", "--by", "ops").err == "queue slow is paused\n"
    assert run("pause").out.startswith("queue slow is paused since 20")
    (pause,) = json.loads(run("pause", "-o", "json").out)["data"]
    assert (pause["kind"], pause["name"], pause["by"], pause["since"][-1]) == ("queue", "slow", "ops", "Z")
    assert run("resume", "queue", "slow").err == "queue slow goes on\n"
    assert run("resume", "queue", "slow").err == "queue slow was not paused: it goes on as before\n"
    assert json.loads(run("pause", "-o", "json").out)["data"] == []


def test_a_flow_of_a_paused_queue_says_how_to_resume_the_queue(run: Run) -> None:
    assert run("pause", "queue", "nobody-serves-this").code == 0
    assert run("submit", f"{FLOWS}:stuck", "--id", "behind-a-pause").code == 0
    assert "flowq resume queue nobody-serves-this" in run("inspect", "behind-a-pause").out
    assert run("resume", "queue", "nobody-serves-this").code == 0
    assert "flowq resume" not in run("inspect", "behind-a-pause").out
    assert run("cancel", "behind-a-pause").code == 0


def test_a_signal_that_nothing_waits_for_is_kept_and_said_so(run: Run) -> None:
    run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "signalled-early", "--delay", "1h")
    early = run("signal", "signalled-early", "nosuch", "1")
    assert (early.code, early.err.splitlines()) == (
        0,
        [
            "signalled-early: signal nosuch was sent",
            "  nothing waits for nosuch now; it is kept for what asks for it later",
        ],
    )
    assert run("cancel", "signalled-early").code == 0


def test_a_pipeline_is_paused_and_resumed(run: Run) -> None:
    assert run("pause", "pipeline", "measuring").code == 0
    assert json.loads(run("resume", "pipeline", "measuring", "-o", "json").out)["data"]["goes_on"] is True


def test_a_flow_is_paused_and_resumed(run: Run) -> None:
    run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "paused-flow", "--delay", "1h")
    assert run("pause", "flow", "paused-fl").code == 2, "a guess wants --yes"
    assert run("pause", "flow", "paused-fl", "--yes", "--by", "ops").err == "flow paused-flow is paused\n"
    shown = run("inspect", "paused-flow").out
    assert "PAUSED" in shown
    assert "by ops" in shown
    assert "flowq resume flow paused-flow" in shown
    told = run("pause")
    assert told.out.startswith("flow paused-flow is paused since 20")
    assert (told.out.endswith(", by ops\n"), told.err) == (True, "")
    (pause,) = json.loads(run("pause", "-o", "json").out)["data"]
    assert (pause["kind"], pause["name"], pause["by"]) == ("flow", "paused-flow", "ops")
    assert run("resume", "flow", "paused-flow").code == 0
    assert run("cancel", "paused-flow").code == 0
    assert run("pause", "flow", "paused-flow").err == "flow paused-flow has ended: nothing to pause\n"


def test_of_many_paused_flows_the_newest_are_told_and_how_to_see_the_others(run: Run) -> None:
    for number in range(21):
        run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", f"many-paused-{number}", "--tag", "many-paused", "--delay", "1h")
        assert run("pause", "flow", f"many-paused-{number}").code == 0
    told = run("pause")
    assert [line.split()[1] for line in told.out.splitlines()] == [f"many-paused-{number}" for number in range(20, 0, -1)]
    assert told.err == "the newest 20 paused flows: `flowq list --state paused` shows more\n"
    assert len(json.loads(run("pause", "-o", "json").out)["data"]) == 20
    assert run("cancel", "--tag", "many-paused", "--yes").code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["pause", "worker", "x"], 2, "one of: queue, pipeline, flow"),
        (["pause", "queue"], 2, "which queue"),
        (["resume"], 2, "needs queue|pipeline|flow"),
        (["pause", "queue", "a b"], 2, "queue"),
        (["resume", "flow", "nobody"], 3, "nobody"),
    ],
)
def test_what_can_t_be_paused_is_refused(run: Run, words: list[str], code: int, says: str) -> None:
    ran = run(*words)
    assert ran.code == code
    assert says in ran.err


@pytest.mark.usefixtures("finished")  # so its worker is there
def test_a_schedule_is_added_listed_run_paused_and_removed(run: Run) -> None:
    assert run("schedule", "list").err == "there is no schedule\n"
    words = ("schedule", "add", "nightly", f"{FLOWS}:simple", "-i", "text=abc", "--cron", "0 2 * * *", "--tz", "Europe/Berlin")
    assert run(*words, "--tag", "beta").err == "schedule nightly is added\n"
    (schedule,) = json.loads(run("schedule", "list", "-o", "json").out)["data"]
    assert (schedule["id"], schedule["pipeline"], schedule["inputs"]) == ("nightly", "simple", {"text": "abc", "times": 1})
    assert schedule["next_at"].endswith("Z")
    assert schedule["problem"] == ""
    assert run("schedule", "pause", "nightly").code == 0
    assert "paused" in run("schedule", "list").out
    flow_id = run("schedule", "run", "nightly").out.strip()
    assert flow_id.startswith("nightly@20")
    assert run("inspect", flow_id).code == 0, "it waits until a worker has made it"
    assert run("schedule", "resume", "nightly").code == 0
    assert "0 2 * * * in Europe/Berlin" in run("schedule", "list").out
    assert json.loads(run("result", flow_id, "-o", "json").out)["data"]["result"]["key"]
    assert run("schedule", "remove", "nightly").err == "schedule nightly is removed\n"
    assert run("schedule", "remove", "nightly").code == 3


def test_what_a_schedule_was_run_for_can_be_cancelled_where_no_worker_makes_it(run: Run) -> None:
    alone = ("-n", f"alone{secrets.token_hex(4)}")
    words = ("schedule", "add", "nightly", f"{FLOWS}:simple", "-i", "text=abc", "--every", "1d")
    assert run(*words, *alone).code == 0
    flow_id = run("schedule", "run", "nightly", *alone).out.strip()
    ran = run("pause", "flow", flow_id, *alone)
    assert (ran.code, "is not made yet" in ran.err) == (3, True)
    ran = run("result", flow_id, "--timeout", "0.1", *alone)
    assert (ran.code, "has not ended" in ran.err) == (124, True)
    for _ in range(2):
        ran = run("cancel", flow_id, *alone)
        assert (ran.code, ran.err) == (0, f"{flow_id} is cancelled\n")
    ran = run("inspect", flow_id, *alone)
    assert (ran.code, "cancelled before it was made" in ran.err) == (3, True)
    assert run("result", flow_id, *alone).code == 6
    ran = run("logs", "-f", flow_id, *alone)
    assert (ran.code, "cancelled before it was made" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["add"], "which schedule"),
        (["add", "x"], "which pipeline"),
        (["add", "x", f"{FLOWS}:simple", "-i", "text=a"], "cron"),
        (["add", "x", f"{FLOWS}:simple", "-i", "text=a", "--cron", "soon"], "cron"),
        (["add", "x", f"{FLOWS}:simple", "-i", "text=a", "--every", "5m", "--tz", "Berlin"], "tz"),
        (["add", "x", f"{FLOWS}:simple", "--every", "5m"], "needs text"),
        (["add", "x", f"{FLOWS}:simple", "-i", "text=a", "--every", "5m", "--overlap", "both"], "overlap"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(run: Run, words: list[str], says: str) -> None:
    ran = run("schedule", *words)
    assert ran.code == 2
    assert says in ran.err


def test_a_retry_gives_a_flow_that_was_out_of_time_a_new_deadline(run: Run) -> None:
    words = ("submit", f"{FLOWS}:waiting", "-i", "path=/nowhere", "--id", "late-again", "--deadline", "1ms", "--wait")
    assert run(*words).code == 5
    assert run("retry", "late-again", "--deadline", "soon").code == 2
    assert run("retry", "late-again", "--deadline", "2h").code == 0
    assert json.loads(run("inspect", "late-again", "-o", "json").out)["data"]["deadline_at"].endswith("Z")
