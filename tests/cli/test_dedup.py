"""`flowq submit --dedup …`: what it prints for a flow that takes another's place, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran

Run = Callable[..., Ran]

WORDS = ("submit", f"{FLOWS}:simple", "-i", "text=a", "--dedup", "user:7")


def test_a_debounced_flow_is_replaced_under_its_id_and_inspect_says_why_it_waits(run: Run) -> None:
    quiet = ("--dedup-debounce", "1h", "--dedup-max-wait", "2h")
    first = run(*WORDS, *quiet)
    second = run(*WORDS, *quiet)
    assert (first.code, first.err, second.out) == (0, "", first.out)
    assert "took the place" in second.err
    flow_id = first.out.strip()
    ran = run("inspect", flow_id)
    assert ran.code == 0, ran.err
    shown = ran.out
    assert "dedup user:7" in shown
    assert "debounced until " in shown
    data = json.loads(run("inspect", flow_id, "-o", "json").out)["data"]
    assert data["dedup"]["mode"] == "debounce"
    assert data["dedup"]["since"].endswith("Z")
    assert json.loads(run(*WORDS, *quiet, "-o", "json").out)["data"] == {"id": flow_id, "addition": "replaced"}
    assert run("cancel", flow_id, "--yes").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--dedup-max-wait", "1h", "--dedup", "k"], "max_wait"),
        (["--dedup-debounce", "1h"], "--dedup-debounce is given without --dedup"),
        (["--dedup-keep-last"], "--dedup-keep-last is given without --dedup"),
        (["--dedup", "k", "--dedup-keep-last", "--dedup-window", "1h"], "one of window="),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, words: list[str], says: str) -> None:
    ran = run("submit", f"{FLOWS}:simple", "-i", "text=a", *words)
    assert ran.code == 2
    assert says in ran.err
