"""What the command line shows of stages whose results were known, against a real server and a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran

Run = Callable[..., Ran]


def submitted(run: Run, flow_id: str, *words: str) -> dict[str, Any]:
    """Runs a flow to its end; its stages by name."""
    assert run("submit", f"{FLOWS}:spelled", "-i", "text=abc", "--id", flow_id, "--wait", *words).code == 0
    data = json.loads(run("inspect", flow_id, "-o", "json").out)["data"]
    return {stage["name"]: stage for stage in data["graph"]}


def test_inspect_names_the_flow_whose_result_was_reused(run: Run) -> None:
    assert submitted(run, "spelled-1")["spell"]["reused"] is None
    spell = submitted(run, "spelled-2")["spell"]
    assert (spell["reused"], spell["runs"], spell["state"]) == ({"flow": "spelled-1", "stage": "spell"}, 0, "completed")
    row = next(line for line in run("inspect", "spelled-2").out.splitlines() if " spell " in line)
    assert row.startswith("≡")
    assert "reused from flow spelled-1" in run("inspect", "spelled-2").out
    assert "reused from flow spelled-1" in run("inspect", "spelled-2", "--events").out


def test_without_cache_all_stages_run(run: Run) -> None:
    submitted(run, "spelled-3")
    assert {stage["runs"] for stage in submitted(run, "spelled-4", "--no-cache").values()} == {1}


def test_what_did_not_run_again_is_marked_as_kept(run: Run) -> None:
    before = submitted(run, "spelled-5", "--no-cache")
    last = list(before)[-1]
    assert run("retry", "spelled-5", "--from", last, "--yes").code == 0
    assert run("watch", "spelled-5").code == 0
    rows = [line for line in run("inspect", "spelled-5").out.splitlines() if line[:1] in ("≡", "✔") and "COMPLETED" not in line]
    assert [line[0] for line in rows] == ["≡"] * (len(before) - 1) + ["✔"]
    assert run("inspect", "spelled-5").out.count("kept from an earlier run") == len(before) - 1
    assert "≡ reused" in run("inspect", "spelled-5").out
    for form in ("mermaid", "dot", "svg"):
        assert "kept from an earlier run" in run("inspect", "spelled-5", "-o", form).out, form


@pytest.mark.parametrize("form", ["mermaid", "dot", "svg"])
def test_a_picture_names_the_flow_whose_result_was_reused(run: Run, form: str) -> None:
    submitted(run, f"spelled-{form}-1", "-i", f"text={form}")
    submitted(run, f"spelled-{form}-2", "-i", f"text={form}")
    assert f"reused from flow spelled-{form}-1" in run("inspect", f"spelled-{form}-2", "-o", form).out
    assert "≡ reused" not in run("inspect", f"spelled-{form}-1").out
