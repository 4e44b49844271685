"""What runs after the end of a flow at the command line: shown with its flow, found among dead letters, retried and cancelled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowq.cli.render.hooks import hook_lines
from flowq.cli.render.screen import Screen
from flowq.model.snapshot import FlowSnapshot, HooksSnapshot, StageSnapshot
from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran
from tests.engine.waiting import eventually

Run = Callable[..., Ran]


def hooks_of(run: Run, flow_id: str) -> dict[str, Any]:
    """The hooks once they have ended."""

    def ended() -> dict[str, Any] | None:
        hooks = json.loads(run("inspect", flow_id, "-o", "json").out)["data"]["hooks"]
        return hooks if hooks and hooks["state"] in ("completed", "failed", "cancelled") else None

    found = eventually(ended)
    assert found is not None
    return found


def test_hooks_are_shown_with_their_flow_and_retried_by_themselves(run: Run, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    assert run("submit", f"{FLOWS}:tidied", "-i", f"path={mended}", "--id", "tidied", "--wait").code == 5
    assert [hook["hook"] for hook in hooks_of(run, "tidied")["stages"]] == ["lay_out", "^"]
    shown = run("inspect", "tidied").out
    assert "✘ take_back  undoes lay_out, failed: Unrecoverable: it can't be taken back yet" in shown
    assert "✔ sweep_up   after every end, completed" in shown
    assert "flowq retry 'tidied^end'" in shown
    assert "after the end of tidied" in run("inspect", "tidied^end").out
    assert "take_back" in run("dead", "list").out
    assert "tidied^end" not in run("list").out
    mended.touch()
    assert "1 stage to run again" in run("retry", "tidied^end").err
    assert run("watch", "tidied^end").code == 0
    assert "take_back" not in run("dead", "list").out
    assert run("retry", "tidied").code == 0


def test_failed_hooks_that_are_discarded_leave_the_dead_list_and_stay_with_their_flow(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "never"
    assert run("submit", f"{FLOWS}:tidied", "-i", f"path={path}", "--id", "discarded", "--wait").code == 5
    hooks_of(run, "discarded")
    groups = json.loads(run("dead", "list", "--json").out)["data"]
    (key,) = [group["key"] for group in groups if group["stage"] == "take_back"]
    asked = run("dead", "discard", key).err
    assert "hooks only leave the dead list: they go with their flow" in asked
    assert "this would remove 1 flow, and there is no terminal" in asked
    discarded = run("dead", "discard", key, "--yes").err
    assert discarded == "1 hook flow left out of the dead list; it goes with discarded\n"
    assert key not in run("dead", "list").out
    path.touch()
    assert "1 stage to run again" in run("retry", "discarded^end").err


def test_an_id_of_hooks_can_not_be_given(run: Run) -> None:
    ran = run("submit", f"{FLOWS}:tidied", "-i", "path=/nowhere", "--id", "mine^end")
    assert ran.code == 2
    assert "'^'" in ran.err


def hook(number: int, state: Any) -> StageSnapshot:
    """One of many."""
    return StageSnapshot(name=f"undo-{number}", stage="undo", queue="default", state=state, attempts=1, hook=f"do[{number}]")


def flow_with(hooks: HooksSnapshot) -> FlowSnapshot:
    """A flow that has failed."""
    return FlowSnapshot(id="f", pipeline="p", state="failed", created_at=1, stages=1, finished=1, failed=1, at=2, hooks=hooks)


def test_of_many_hooks_those_are_shown_that_are_not_done() -> None:
    every = tuple(hook(number, "failed" if number == 90 else "completed") for number in range(100))
    first, *_, more, command = hook_lines(flow_with(HooksSnapshot(id="f^end", state="failed", stages=every)), Screen())
    assert first == "✘ undo-90  undoes do[90], failed"
    assert (more, command) == ("… and 88 more", "flowq retry 'f^end'")


def test_hooks_that_were_not_added_yet_are_told() -> None:
    (told,) = hook_lines(flow_with(HooksSnapshot(id="f^end")), Screen())
    assert told == "a worker that lives will begin them; none has had the time"
