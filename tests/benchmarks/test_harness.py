"""The harness with real drivers on a real server. Peers take part where `make peers` or `make bench` has installed them, and must
with FLOWQ_TEST_PEERS=all."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks.contestants import CONTESTANTS, FLOWQ, ROOT
from benchmarks.conversation import DriverFailed
from benchmarks.document import rows_of
from benchmarks.install import CACHE, lacks_node, missing
from benchmarks.install import main as install
from benchmarks.measures import MEASURES
from benchmarks.plot import plot
from benchmarks.report import report
from benchmarks.rounds import Failure, played, rotated
from benchmarks.stand import QUICK, Sizes, running_servers, stand_for

# What weighs something is weighed in hundreds: the server's own memory moves by tens of kilobytes at any time.
TINY = Sizes(20, 20, 20, (5,), 20, 40, 5, 300, 150, (0, 300), 600, 5, 0.2, 1)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What flowq and the floor come to, as JSON; and where the plot is."""
    directory = tmp_path_factory.mktemp("bench")
    output, picture = directory / "results" / "it.json", directory / "it.svg"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "QUICK", TINY)
        words = ["--quick", "--seed", "7", "--only", "flowq", "floor", "--output", str(output), "--plot", str(picture)]
        assert command.main(words) == 0
    return json.loads(output.read_text("utf-8")), picture


@pytest.mark.timeout(180)
def test_every_measure_finds_figures_of_flowq(measured: tuple[dict[str, Any], Path]) -> None:
    made, _ = measured
    assert made["failures"] == []
    found = rows_of(made)
    assert {row.measure for row in found if row.spread("flowq")} == {measure.name for measure in MEASURES}
    assert all(row.values["flowq"][0] >= 0 for row in found)  # type: ignore[operator]


def test_the_floor_is_measured_where_it_can_be(measured: tuple[dict[str, Any], Path]) -> None:
    found = rows_of(measured[0])
    assert {row.measure for row in found if row.spread("floor")} == {"chains"}


def test_the_document_says_what_was_measured_on_what(measured: tuple[dict[str, Any], Path]) -> None:
    made, _ = measured
    assert (made["schema_version"], made["seed"], made["rounds"]) == (1, 7, 1)
    assert made["sizes"] == json.loads(json.dumps(TINY._asdict()))
    assert made["server"]["version"]
    assert made["machine"]["cpus"]
    told = {each["name"]: each for each in made["contestants"]}
    assert set(told) == {"flowq", "floor"}
    assert told["flowq"]["versions"]["redis"]
    assert told["flowq"]["settings"]


def test_the_table_names_every_figure_and_contestant(measured: tuple[dict[str, Any], Path]) -> None:
    made, _ = measured
    shown = report(made)
    assert all(row.name in shown for row in rows_of(made))
    assert "× the floor" in shown
    assert "not measured" in shown  # goals that compare with a peer


def test_the_plot_is_drawn_from_the_document_alone(measured: tuple[dict[str, Any], Path]) -> None:
    made, picture = measured
    assert picture.read_text("utf-8") == plot(made)
    assert plot(made).startswith("<svg ")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("contestant", [each for each in CONTESTANTS if each.packages], ids=lambda each: each.name)
def test_a_peer_that_is_installed_runs_as_many_chains_as_it_was_given(contestant: Any) -> None:
    if why := missing(contestant, CACHE, may_install=False):
        if os.environ.get("FLOWQ_TEST_PEERS") == "all" and not lacks_node(contestant):
            pytest.fail(why)
        pytest.skip(why)
    (chains,) = (each for each in MEASURES if each.name == "chains")
    with running_servers({"none"}) as servers:
        found = list(played([contestant], [chains], servers, rounds=1, sizes=TINY, cache=CACHE, seed=1))
    assert not [one for one in found if isinstance(one, Failure)]
    assert found


def test_a_peer_that_is_not_installed_is_reported_as_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "it.json"
    words = ["--quick", "--only", "BullMQ", "--no-install", "--cache", str(tmp_path), "--output", str(output)]
    assert command.main(words) == 0
    assert json.loads(output.read_text("utf-8"))["contestants"][0]["missing"]
    assert "MISSING" in capsys.readouterr().out


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_rounds_are_counted_from_one(capsys: pytest.CaptureFixture[str], count: str) -> None:
    with pytest.raises(SystemExit):
        command.main(["--rounds", count])
    assert f"argument --rounds: '{count}' is no whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"), [(None, "can't be read: No such file"), ("{", "is no JSON"), ("[]", "holds no figures"), ("{}", "holds no")]
)
def test_a_file_that_can_not_be_shown_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, told: str
) -> None:
    path = tmp_path / "it.json"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(SystemExit):
        command.main(["--show", str(path)])
    assert f"argument --show: {path} {told}" in capsys.readouterr().err
    assert command.main(["--show", str(ROOT / "benchmarks" / "results" / "latest.json"), "--goals"]) in (0, 1)


def test_who_installs_the_peers_is_told_of_each_that_can_not_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = FLOWQ._replace(name="nobody", packages=(str(tmp_path / "nobody.whl"),))
    assert install([FLOWQ, nowhere], tmp_path / "cache") == 1
    assert "nobody: could not be installed: " in capsys.readouterr().err


def test_a_driver_that_dies_is_a_failure_and_not_a_gap() -> None:
    (chains,) = (each for each in MEASURES if each.name == "chains")
    with running_servers({"none"}) as servers:
        broken = FLOWQ._replace(driver="none.py")
        (failure,) = played([broken], [chains], servers, rounds=1, sizes=TINY, cache=CACHE, seed=1)
    assert isinstance(failure, Failure)
    assert "none.py" in failure.why


def test_what_a_driver_can_not_do_is_told_by_the_driver() -> None:
    with running_servers({"none"}) as servers, stand_for(FLOWQ, servers["none"], QUICK, CACHE).driver() as driver:
        with pytest.raises(DriverFailed, match="KeyError"):
            driver.ask("dance")


def test_nobody_comes_first_in_every_round() -> None:
    order = list(CONTESTANTS[:3])
    assert [rotated(order, turn)[0] for turn in range(4)] == [*order, order[0]]


def test_the_harness_keeps_the_sizes_of_the_house() -> None:
    for path in (ROOT / "benchmarks").rglob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno <= 50, f"{path}:{node.lineno}"
