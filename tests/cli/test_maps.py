"""A map with many items at the command line: folded, its failures listed, and only these run again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran


def test_of_240_items_only_the_failed_ones_are_listed_and_run_again(run: Callable[..., Ran], tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    inputs = ("-i", "chunks=240", "-i", f"mended={mended}")
    assert run("submit", f"{FLOWS}:chunked", *inputs, "--id", "chunked", "--wait").code == 5
    shown = run("inspect", "chunked").out
    assert "convert ×240" in shown
    assert "228 ✔ 12 ✘" in shown
    assert re.search(r"convert\[(\d+)\] failed: Unrecoverable: chunk \1 is broken", shown)
    assert shown.count("is broken") < 30
    assert len(run("inspect", "chunked", "--all").out.splitlines()) > 240
    (_, convert, _) = json.loads(run("inspect", "chunked", "-o", "json").out)["data"]["graph"]
    assert (convert["items"]["completed"], convert["items"]["failed"], len(convert["items"]["listed"])) == (228, 12, 10)
    mended.touch()
    assert "12 stages to run again" in run("retry", "chunked").err
    assert run("watch", "chunked").code == 0
    assert run("result", "chunked").out.strip() == str(sum(range(240)))
    items = json.loads(run("inspect", "chunked", "--all", "-o", "json").out)["data"]["graph"][1]["items"]["listed"]
    assert [item["runs"] for item in items] == [2 if number % 20 == 3 else 1 for number in range(240)]


def test_one_item_is_named_for_a_retry_as_it_is_shown(run: Callable[..., Ran], tmp_path: Path) -> None:
    inputs = ("-i", "chunks=3", "-i", f"mended={tmp_path}")
    assert run("submit", f"{FLOWS}:chunked", *inputs, "--id", "named", "--wait").code == 0
    assert run("retry", "named", "--from", "convert[1]", "--set", "chunk=41").code == 0
    assert run("watch", "named").code == 0
    assert run("result", "named").out.strip() == "43"
    assert run("retry", "named", "--from", "convert[3]").code == 3
