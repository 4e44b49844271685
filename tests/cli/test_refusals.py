"""What was typed wrong is named as it was typed, with what to type instead; what is out of reach, in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran

Run = Callable[..., Ran]
IDLE_IS = "expected a duration such as 90s, 5m or 2h, from 0.1 s"


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        (["prune", "--dry-run"], "no filter was given", "give one, such as --older-than 30d or --state failed"),
        (["prune", "--older-than", "forever"], "--older-than is 'forever'", "expected a duration such as 90s, 5m or 2h, from"),
        (["list", "--since", "yesterday"], "--since is 'yesterday'", "expected a duration such as 90s"),
        (["list", "--search", ""], "--search is ''", "expected a text of 1 to 500 characters"),
        (["usage", "--days", "0"], "--days is 0", "expected a whole number from 1 to 400"),
        (["cancel", "--state", "failed"], "--state is 'failed'", "one of: scheduled, ready, running"),
        (["cancel", "--state", "runing"], "--state is 'runing'", "did you mean 'running'?"),
        (
            ["schedule", "add", "s1", f"{FLOWS}:simple", "-i", "text=a"],
            "neither --cron nor --every was given",
            "give one of them",
        ),
        (
            ["schedule", "add", "s1", f"{FLOWS}:simple", "--cron", "0 2 * * *", "--every", "5m"],
            "--cron and --every were both given",
            "give one of them",
        ),
        (["limits", "set", "queue:q2", "--rate", "2/h"], "limit queue:q2 can't have a --rate", "a queue or tenant is limited by"),
        (["limits", "set", "foo"], "limit foo has neither --rate nor --concurrency", "give one of them, or both"),
        (["dead"], "`flowq dead` needs an action", "one of: list, show, retry, discard"),
        (["schedule"], "`flowq schedule` needs an action", "one of: list, add, remove"),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "--delay=soon"], "--delay is 'soon'", "expected a duration such as 90s"),
        (["worker", FLOWS, "--idle-timeout", "x"], "--idle-timeout is 'x'", "expected a duration such as 90s"),
        *(
            (["worker", FLOWS, "--idle-timeout", typed], f"--idle-timeout is {told}", f"{IDLE_IS} to 366 days")
            for typed, told in (("0", "0"), ("0s", "'0s'"), ("99ms", "'99ms'"), ("-1s", "'-1s'"), ("-1", "'-1'"))
        ),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "--delay", "-5s"], "--delay is '-5s'", "expected a duration such as 90s"),
        (
            ["artifact", "finished", "write", "--show-url", "forever"],
            "--show-url is 'forever'",
            "expected a duration such as 90s",
        ),
        (
            ["retry", "finished", "--from", "write", "--set", "nothing=1"],
            "--set is 'nothing'",
            "expected arguments of the stages that run again",
        ),
        (["submit", FLOWS], f"{FLOWS} has ", f"name one: {FLOWS}:"),
    ],
)
def test_what_was_typed_wrong_is_named_as_it_was_typed(
    run: Run, finished: str, words: list[str], problem: str, remedy: str
) -> None:
    ran = run(*words)
    first, second = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert first.startswith(f"flowq: {problem}")
    assert second.startswith(f"  → {remedy}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://127.0.0.1:1", "redis://127.0.0.1:1 does not answer: connection refused"),
        ("redis://localhost:1", "redis://localhost:1 does not answer: connection refused"),
        ("redis://no-such-host.invalid", "redis://no-such-host.invalid does not answer: "),
        ("unix:///nowhere/at.all", "unix:///nowhere/at.all does not answer: no such file or directory"),
    ],
)
def test_a_server_out_of_reach_is_told_in_words(run: Run, url: str, says: str) -> None:
    ran = run("list", "-u", url)
    assert ran.code == 4
    assert ran.err.startswith(f"flowq: the server at {says}")
    assert not {"Error", "Errno", "call"} & set(ran.err.replace("[", " ").split())


@pytest.mark.parametrize(
    ("names", "says"), [(["b", "a"], "name one: {0}:a, {0}:b"), ([], "define one with @pipeline, or a @stage")]
)
def test_a_module_of_several_pipelines_names_them_all(run: Run, tmp_path: Path, names: list[str], says: str) -> None:
    module = f"mod_of_{len(names)}"
    lines = [f"@pipeline\ndef {name}(x: int) -> int: return mine(x)" for name in names]
    stages = ["from flowq import pipeline, stage", "@stage", "def mine(x: int) -> int: return x", *lines] if names else []
    (tmp_path / f"{module}.py").write_text("\n".join(stages))
    ran = run("submit", module, cwd=tmp_path)
    assert ran.code == 2
    assert says.format(module) in ran.err
