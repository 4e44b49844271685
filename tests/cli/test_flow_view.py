"""What `flowq inspect` shows, at several widths, in every state."""

from __future__ import annotations

import os
import shlex
import unicodedata
from pathlib import Path

import msgspec
import pytest

from flowq.cli.render.flow import flow_view
from flowq.cli.render.ink import cells, painted
from flowq.cli.render.screen import Screen
from flowq.model.failure import FailureKind
from flowq.model.snapshot import FlowSnapshot, Reason
from tests.cli import snapshots

FLOWS = {
    "running": snapshots.RUNNING,
    "retrying": snapshots.RETRYING,
    "failed": snapshots.FAILED,
    "blocked": snapshots.BLOCKED,
    "completed": snapshots.COMPLETED,
    "cancelled": snapshots.CANCELLED,
    "wide": snapshots.WIDE,
    "mapped": snapshots.MAPPED,
    "suspended": snapshots.SUSPENDED,
}
EXPECTED = Path(__file__).parent / "expected"


def view(snapshot: FlowSnapshot, screen: Screen, rows_max: int | None = None) -> str:
    return painted(flow_view(snapshot, screen, rows_max=rows_max), screen.colour)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("name", FLOWS)
def test_the_view_is_the_one_on_file(name: str, width: int) -> None:
    shown = view(FLOWS[name], Screen(width))
    path = EXPECTED / f"{name}-{width}.txt"
    if os.environ.get("FLOWQ_TEST_UPDATE"):  # look at the difference before you commit it
        path.write_text(shown, "utf-8")
    assert shown == path.read_text("utf-8")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("name", FLOWS)
def test_no_line_is_wider_than_the_screen(name: str, unicode: bool, width: int) -> None:
    lines = view(FLOWS[name], Screen(width, unicode)).splitlines()
    assert not [line for line in lines if cells(line) > width]


@pytest.mark.parametrize("name", FLOWS)
def test_without_unicode_everything_is_ascii(name: str) -> None:
    assert view(FLOWS[name], Screen(80, unicode=False)).isascii()


@pytest.mark.parametrize("name", FLOWS)
def test_colours_change_nothing_but_colours(name: str) -> None:
    import re

    coloured = view(FLOWS[name], Screen(100, colour=True))
    stripped = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == view(FLOWS[name], Screen(100)).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_fact_is_there_at_every_width(width: int) -> None:
    shown = " ".join(view(snapshots.RUNNING, Screen(width)).replace("│", " ").split())
    for fact in (
        "RUNNING", "short:42", "short_video", "3/7 stages", "about 18s left", "tenant acme", "tags beta",
        "download/7:c0ffee/source.mp4 (38 MB)", "segment 31 of 50", "ConnectionResetError: peer went away", "fps=212 speed=7.1x",
        "no worker serves queue gpu", "waits for encode, encode-2, transcribe", "download → encode → finalize", "72%", "28.4s",
        "in media/short%3A42/", "flowq watch short:42",
    ):  # fmt: skip
        assert fact in shown


def test_a_failed_flow_tells_its_root_cause_before_its_stages() -> None:
    shown = view(snapshots.FAILED, Screen(100))
    cause = shown.index("encode failed after 3 of 3 attempts: ProgramFailed")
    assert cause < shown.index('File "pipelines.py", line 31') < shown.index("    stage ")
    assert "1 stage can't run: finalize" in shown


def test_what_can_never_run_does_not_claim_to_wait() -> None:
    shown = view(snapshots.FAILED, Screen(100))
    assert "waits for" not in shown
    assert "encode has failed" in shown


def test_what_goes_on_beside_a_failure_is_not_among_what_can_not_run() -> None:
    held = snapshots.stage("notify", "blocked", ("probe",), reason=Reason("children", "waits for probe", ("probe",)))
    running = msgspec.structs.replace(snapshots.FAILED, state="running", ended_at=None, graph=(*snapshots.FAILED.graph, held))
    shown = view(running, Screen(100))
    assert "1 stage can't run: finalize" in shown
    assert "waits for probe" in shown


def test_a_long_command_is_folded_as_a_shell_understands_it() -> None:
    flow = msgspec.structs.replace(snapshots.COMPLETED, id="2026-11-22:a-rather-long-name-of-a-flow")
    for width in (40, 60, 120):
        shown = view(flow, Screen(width)).split("next      ")[1]
        assert [shlex.split(command) for command in shown.replace("\\\n", "").splitlines()] == [
            ["flowq", "result", flow.id], ["flowq", "artifact", flow.id, "finalize", "short.mp4"],
        ]  # fmt: skip


def test_a_traceback_is_shown_without_underlines_and_only_where_it_leads_to_the_user_s_code() -> None:
    failed = snapshots.FAILED.stage("encode")
    cause = failed.failure
    assert cause is not None
    underlined = cause.traceback.replace("ProgramFailed:", "    ^^^~~^^^\nProgramFailed:")

    def shown(kind: FailureKind) -> str:
        failure = msgspec.structs.replace(cause, kind=kind, traceback=underlined)
        stage = msgspec.structs.replace(failed, failure=failure)
        return view(msgspec.structs.replace(snapshots.FAILED, graph=(stage,)), Screen(100))

    assert "context().run(argv)" in shown("error")
    assert "^" not in shown("error")
    for kind in ("timeout", "stalled", "poisoned"):
        assert "context().run(argv)" not in shown(kind)


def test_the_root_cause_is_the_one_the_engine_named_and_else_the_first_that_failed() -> None:
    late = msgspec.structs.replace(snapshots.FAILED.stage("encode"), name="early", ended_at=snapshots.T0, children=())
    both = msgspec.structs.replace(snapshots.FAILED, graph=(late, *snapshots.FAILED.graph))
    assert "encode failed" in view(both, Screen(100)).split("also")[0]
    assert "early failed" in view(msgspec.structs.replace(both, root_cause=None), Screen(100)).split("also")[0]


def test_a_flow_of_10000_stages_is_folded_and_bounded() -> None:
    shown = view(snapshots.WIDE, Screen(100))
    assert "encode ×9,998" in shown
    assert "4 ✘  95 ▶  9,899 ✔" in shown
    assert "encode-9995" in shown  # the root cause has a row of its own
    assert len(shown.splitlines()) < 30


def test_with_all_every_stage_has_a_row() -> None:
    shown = view(snapshots.WIDE, Screen(100), rows_max=10**9)
    assert len(shown.splitlines()) > 10_000


def test_a_chain_of_10000_functions_of_many_names_is_bounded_too() -> None:
    chain = tuple(
        snapshots.stage(f"s{number}", "blocked", (f"s{number - 1}",) if number else (), stage=f"f{number % 2}")
        for number in range(10_000)
    )
    shown = view(snapshots.flow("ready", chain, 5), Screen(80))
    assert len(shown.splitlines()) < 200
    assert "more stages: `flowq inspect -o json` has all" in shown


def test_an_empty_and_a_damaged_flow_are_shown_all_the_same() -> None:
    assert "READY" in view(snapshots.flow("ready", (), 1), Screen(80))
    loops = (snapshots.stage("a", "blocked", ("b", "nowhere")), snapshots.stage("b", "blocked", ("a",)))
    assert "b" in view(snapshots.flow("ready", loops, 1), Screen(80))
    assert "?" in view(snapshots.flow("weird", (snapshots.stage("a", "weird"),), -5), Screen(80))


def test_a_very_long_id_is_never_cropped() -> None:
    long_id = "https://example.org/" + "x" * 236
    shown = view(msgspec.structs.replace(snapshots.RUNNING, id=long_id), Screen(60))
    head = shown.split("inputs")[0]
    assert "".join(head.split()).count("x" * 236) == 1


def test_commands_to_copy_are_quoted_for_the_shell() -> None:
    shown = view(msgspec.structs.replace(snapshots.RUNNING, id="a;rm$(x)"), Screen(80))
    assert "flowq watch 'a;rm$(x)'" in shown


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("colour", [True, False])
def test_no_control_character_reaches_the_terminal_from_any_field(colour: bool, width: int) -> None:
    import re

    shown = view(snapshots.hostile(), Screen(width, colour=colour))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\n", "")
    assert [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")] == []
    assert "\\x1b" in shown


def test_wide_characters_take_two_columns() -> None:
    stages = (snapshots.stage("下载", "completed", start=0, run=1), snapshots.stage("x", "blocked", ("下载",)))
    rows = view(snapshots.flow("running", stages, 2), Screen(80)).splitlines()
    first = next(row for row in rows if "下载" in row)
    second = next(row for row in rows if row.startswith("·"))
    assert cells(first[: first.index("█")]) == 4 + 12 + 1
    assert second.startswith("·   ↓ x")
