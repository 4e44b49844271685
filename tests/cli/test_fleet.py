"""`flowq queues`, `flowq workers` and `flowq top`, against a real server and a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from tests.cli.terminal import Ran, Terminal

Run = Callable[..., Ran]


def test_queues_shows_what_waits_where_nobody_serves(run: Run, finished: str) -> None:
    run("pause", "queue", "held", "--by", "jo")
    shown = run("queues")
    assert (shown.code, shown.err) == (0, "")
    head, *rows = shown.out.splitlines()
    assert head.split() == ["queue", "ready", "running", "delayed", "workers", "slots", "oldest"]
    assert any(row.startswith("held ") and "paused by jo" in row for row in rows)
    default = next(row.split() for row in rows if row.startswith("default "))
    assert int(default[4]) >= 1
    data = json.loads(run("queues", "-o", "json").out)
    assert data["kind"] == "queues"
    assert {"name", "ready", "running", "delayed", "workers", "slots", "oldest_seconds", "pause"} <= data["data"][0].keys()
    run("resume", "queue", "held")


def test_queues_shows_those_that_were_named_also_where_nothing_waits(run: Run, finished: str) -> None:
    data = json.loads(run("queues", "unheard-of", "default", "-o", "json").out)["data"]
    assert [queue["name"] for queue in data] == ["unheard-of", "default"]
    assert (data[0]["ready"], data[0]["running"], data[0]["oldest_seconds"]) == (0, 0, None)
    assert run("queues", "two words").code == 2


def test_workers_shows_who_works(run: Run, finished: str) -> None:
    shown = run("workers")
    assert shown.out.splitlines()[0].split() == ["worker", "runs", "for", "lease", "id", "queues"]
    assert "default" in shown.out
    (worker, *_) = json.loads(run("workers", "-o", "json").out)["data"]
    assert worker["since"].endswith("Z")
    assert "default" in worker["queues"]
    assert not any("flowq" in row.split()[5:] for row in shown.out.splitlines())  # every worker serves it, and it is not theirs


def test_where_there_is_nothing_they_say_so(run: Run) -> None:
    for command in ("queues", "workers"):
        ran = run(command, env={"FLOWQ_NAMESPACE": "nobody-here"})
        assert (ran.code, ran.out) == (0, "")
        assert ran.err.startswith("no ")


@pytest.mark.parametrize("words", [("top",), ("queues", "--watch"), ("workers", "--watch")])
def test_live_needs_a_terminal_and_text(run: Run, words: tuple[str, ...]) -> None:
    assert "no terminal" in run(*words).err
    assert run(*words, "-o", "json").code == 2


def test_top_shows_both_until_it_is_interrupted(server: Mapping[str, str], finished: str) -> None:
    with Terminal(["top"], env=server, width=120) as terminal:
        terminal.until("lease")
        assert "queue " in terminal.out
        terminal.press("\x03")
        assert terminal.end().code == 130
