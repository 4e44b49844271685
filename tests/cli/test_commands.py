"""Every command against a real server and a real worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowq.cli.parser import parse
from tests.cli.conftest import FLOWS
from tests.cli.gate import Gate
from tests.cli.terminal import ROOT, Ran, Terminal, environment, flowq, in_terminal
from tests.engine.waiting import eventually

Run = Callable[..., Ran]


def test_submit_prints_the_id_alone(run: Run) -> None:
    ran = run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "only-the-id")
    assert (ran.code, ran.out, ran.err) == (0, "only-the-id\n", "")


def test_submit_makes_up_an_id_that_the_other_commands_take(run: Run) -> None:
    flow_id = run("submit", f"{FLOWS}:simple", "-i", "text=a").out.strip()
    assert run("result", flow_id).code == 0


def test_submit_and_wait_prints_the_result_on_the_next_line(run: Run) -> None:
    ran = run("submit", f"{FLOWS}:measure", "--input-json", '{"text": "abc"}', "-i", "times=3", "--id", "waited", "--wait")
    assert ran.out == "waited\n9\n"


def test_submit_follow_tells_what_happens_on_stderr_and_the_outcome_by_its_code(run: Run) -> None:
    ran = run("submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "followed", "--follow")
    assert (ran.code, ran.out) == (0, "followed\n")
    assert "completed  write" in ran.err
    assert run("submit", f"{FLOWS}:failing", "--follow").code == 5


def test_the_same_id_and_inputs_give_the_same_flow_and_others_a_conflict(run: Run, finished: str) -> None:
    again = run("submit", f"{FLOWS}:simple", "-i", "text=hello", "--id", finished)
    assert (again.code, again.out.strip()) == (0, finished)
    other = run("submit", f"{FLOWS}:simple", "-i", "text=other", "--id", finished)
    assert other.code == 1
    assert "with other inputs" in other.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["submit", f"{FLOWS}:simple"], 2, "needs text"),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "-i", "times=x"], 2, "input times is 'x'\n  → expected `int`\n"),
        (["submit", f"{FLOWS}:simple", "-i", "txt=a"], 2, "'text'"),
        (["submit", f"{FLOWS}:smple", "-i", "text=a"], 2, "simple"),
        (["submit", "no_such_module:x"], 2, "no_such_module"),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "a b"], 2, "flow id"),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "--id", "never-added", "--wait", "--timeout", "soon"], 2, "--timeout"),
        (["inspect", "never-added"], 3, "never-added"),
        (["submit", f"{FLOWS}:simple", "-i", "text=a", "--timeout", "1s"], 2, "--follow or --wait"),
        (["inspect", "nobody"], 3, "nobody"),
        (["watch", "nobody"], 3, "nobody"),
        (["result", "nobody"], 3, "nobody"),
        (["cancel", "nobody"], 3, "nobody"),
        (["retry", "nobody"], 3, "nobody"),
        (["artifact", "finished", "nostage"], 3, "nostage"),
        (["artifact", "finished", "measure"], 3, "stages that have one: write"),
        (["artifact", "finished", "write", "width.txt"], 3, "it has: length.txt"),
        (["submit", f"{FLOWS}:simple", "--input-json", "@nofile"], 2, "'nofile', which can't be read"),
        (["inspect"], 2, "`flowq inspect` needs FLOW_ID\n"),
        (["artifact"], 2, "`flowq artifact` needs FLOW_ID, STAGE\n"),
        (["artifact", "finished", "write", "-O", "/no/such/x"], 2, "there is no directory /no/such\n"),
        (["inspect", "finished", "-o", "yaml"], 2, "yaml"),
        (["inspct", "finished"], 2, "'inspect'"),
        (["inspect", "finished", "--evnts"], 2, "did you mean '--events'?"),
        (["inspect", "finished", "--delay=3"], 2, "see `flowq inspect --help`"),
        (["inspect", "finished", "-x"], 2, "see `flowq inspect --help`"),
        (["inspect", "finished", "more"], 2, "see `flowq inspect --help`"),
        (["--delay"], 2, "see `flowq --help`"),
        (["list", "--limit", "many"], 2, "--limit is 'many'\n  → expected a whole number\n"),
        (["list", "--tag"], 2, "--tag needs a value\n"),
        (["list", "--color", "sometimes"], 2, "--color is 'sometimes'\n  → one of: auto, always, never\n"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--state", "runing"], 2, "--state is 'runing'\n  → did you mean 'running'?\n"),
        (["list", "--since", "yesterday"], 2, "--since"),
        (["list", "--after", "nobody"], 3, "nobody"),
        (["list", "--artifact", "a/b"], 2, "artifact key"),
        (["retry"], 2, "no flow was given"),
        (["retry", "finished", "--tag", "x"], 2, "a flow and a filter"),
        (["retry", "--tag", "x", "--from", "measure"], 2, "--from and --set"),
        (["cancel", "--state", "failed"], 2, "--state"),
        (["dead", "show"], 2, "needs a KEY"),
        (["dead", "burn"], 2, "burn"),
        (["prune", "--yes"], 2, "no filter was given"),
        (["prune", "--older-than", "soon", "--yes"], 2, "--older-than is 'soon'"),
        (["result", "finished", "--timeout", "never"], 2, "--timeout"),
        (["worker", FLOWS, "-c", "0"], 2, "concurrency"),
        (["worker", FLOWS, "-q", "gpu:none"], 2, "gpu"),
        (["worker", FLOWS, "--name", "two words"], 2, "--name is 'two words'"),
        (["worker", FLOWS, "-o", "json"], 2, "output format 'json'"),
        (["list", "--artifacts", "gs://bucket"], 2, "artifacts is 'gs://bucket'"),
        (["-n", "dev", "lst"], 2, "unknown command 'lst'\n  → did you mean 'list'?"),
        (["worker", "no_such_module"], 2, "no_such_module"),
        (["dev", "no_such_file.py"], 2, "there is no file no_such_file.py"),
        (["dev", "no_such_module"], 2, "there is no module 'no_such_module'"),
        (["dev", f"{FLOWS}:simple"], 2, f"give {FLOWS}"),
        (["dev", "-c", "0"], 2, "concurrency"),
        (["dev", "-q", "gpu:none"], 2, "gpu"),
        (["dev", "--url", "redis://h"], 2, "--url"),
        ([], 2, ""),
    ],
)
def test_a_mistake_is_told_in_two_lines_with_its_exit_code(
    run: Run, finished: str, words: list[str], code: int, says: str
) -> None:
    ran = run(*words)
    assert ran.code == code, ran
    assert says in ran.err
    assert "Traceback" not in ran.err + ran.out
    assert len(ran.err.splitlines()) <= 3 or words[:1] == ["worker"], ran.err


@pytest.mark.parametrize("module", ["no_such_file.py", "no_such_module.part", "my-module", ".py"])
def test_a_module_that_is_not_there_is_told_before_a_server_that_is_not(run: Run, module: str) -> None:
    ran = run("worker", module, env={"FLOWQ_URL": "redis://127.0.0.1:1"})
    assert ran.code == 2
    assert module in ran.err.splitlines()[0]


@pytest.mark.usefixtures("impatient")
def test_a_missing_socket_is_named_in_the_remedy(run: Run) -> None:
    ran = run("list", env={"FLOWQ_URL": "unix:///nowhere/valkey.sock"})
    assert ran.code == 4
    assert "the socket /nowhere/valkey.sock" in ran.err.splitlines()[-1]


def test_a_refused_login_is_told_without_the_password(valkey_url: str, run: Run) -> None:
    url = valkey_url.replace("unix://", "unix://somebody:hush@")
    ran = run("list", env={"FLOWQ_URL": url})
    assert ran.code == 4
    assert "refused the login" in ran.err
    assert "hush" not in ran.err


def test_errors_are_json_where_json_was_asked_for(run: Run) -> None:
    ran = run("inspect", "nobody", "-o", "json")
    assert (ran.code, ran.out) == (3, "")
    assert json.loads(ran.err)["error"]["code"] == "flow_not_found"
    assert json.loads(run("inspct", "--json").err)["error"]["code"] == "usage_error"


def test_debug_shows_the_traceback(run: Run) -> None:
    assert "Traceback" in run("inspect", "nobody", "--debug").err


def test_inspect_shows_the_flow(run: Run, finished: str) -> None:
    ran = run("inspect", finished, env={"COLUMNS": "100"})
    assert ran.code == 0
    for fact in (
        "COMPLETED",
        "finished",
        "simple",
        "2/2 stages",
        "measure",
        "write",
        "length.txt (1 B)",
        "tenant acme",
        "tags beta",
    ):
        assert fact in ran.out
    assert "\x1b" not in ran.out


def test_a_failed_stage_is_not_counted_as_done(run: Run) -> None:
    assert run("submit", f"{FLOWS}:hopeless", "--id", "hopeless", "--wait").code == 5
    shown = run("inspect", "hopeless").out
    assert "0/3 stages, 1 failed" in shown
    assert re.search(r"^✘ +(◆ +)?watch_video +▓", shown, re.MULTILINE), shown
    assert "█" not in re.sub(r"^bars.*$", "", shown, flags=re.MULTILINE)
    assert "0/3, 1 failed" in run("list", "--search", "hopeless").out


def test_why_a_stage_failed_is_said_once(run: Run) -> None:
    run("submit", f"{FLOWS}:hopeless", "--id", "hopeless", "--wait")
    assert "unrecoverable: Unrecoverable" not in run("inspect", "hopeless").out
    assert run("inspect", "hopeless").out.count("Unrecoverable: no video stream") == 3  # the cause, its traceback, its stage


def test_a_cancelled_stage_is_not_counted_as_done(run: Run) -> None:
    run("submit", f"{FLOWS}:stuck", "--id", "unwanted")
    run("cancel", "unwanted")
    assert "0/1 stage" in run("inspect", "unwanted").out
    assert " 0/1 " in run("list", "--search", "unwanted").out


def test_a_tolerated_failure_and_a_skipped_stage_say_so(run: Run) -> None:
    assert run("submit", f"{FLOWS}:forgiving", "--id", "forgiving", "--wait").code == 0
    shown = run("inspect", "forgiving").out
    assert shown.startswith("✔ COMPLETED")
    assert "3/3 stages ·" in shown
    assert "tolerated: Unrecoverable: no video stream" in shown
    assert "cause" not in shown
    assert "skipped: its condition does not hold" in shown


def test_a_completed_flow_runs_again_from_a_stage_with_other_arguments(run: Run) -> None:
    run("submit", f"{FLOWS}:simple", "-i", "text=hello", "--id", "again", "--wait")
    assert "2 stages to run again" in run("retry", "again", "--from", "measure", "--set", "times=3").err
    assert run("result", "again").code == 0
    shown = json.loads(run("inspect", "again", "-o", "json").out)["data"]
    assert (shown["run"], shown["graph"][0]["result"]) == (2, 15)
    assert " · run 2 · " in run("inspect", "again").out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--from", "absent"], 3, "absent"),
        (["--from", "measure", "--set", "times"], 2, "--set"),
        (["--from", "measure", "--set", "height=3"], 2, "height"),
        (["--from", "write", "--set", "length=3"], 2, "length"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(run: Run, finished: str, words: list[str], code: int, message: str) -> None:
    refused = run("retry", finished, *words)
    assert (refused.code, message in refused.err) == (code, True), refused


def test_text_stays_text_in_a_retry_and_each_run_has_its_result(server: Mapping[str, str], run: Run) -> None:
    run("submit", f"{FLOWS}:measure", "-i", "text=hello", "--id", "years", "--wait")
    # A process of its own, which does not know the code.
    assert flowq("retry", "years", "--from", "measure", "--set", "text=2024", "--yes", env=server).code == 0
    assert (run("result", "years").out, run("result", "years", "--run", "1").out) == ("4\n", "5\n")
    assert run("retry", "years", "--from", "measure", "--set", "text=null", "--set", "times=2").code == 0
    assert run("result", "years").out == "8\n"
    assert run("result", "years", "--run", "7").code == 2


@pytest.mark.parametrize("knows_the_code", [True, False])
def test_what_is_typed_where_nothing_is_stored_becomes_what_the_stage_takes(
    server: Mapping[str, str], run: Run, knows_the_code: bool
) -> None:
    name = f"labelled-{knows_the_code}"
    run("submit", f"{FLOWS}:labelled", "--id", name, "--wait")

    def after(*words: str) -> object:
        ran = run("retry", name, *words) if knows_the_code else flowq("retry", name, *words, env=server)
        assert ran.code == 0, ran
        return json.loads(run("result", name).out)

    assert after("--from", "label", "--set", "title=2024", "--set", "height=480") == ["2024", 480]
    assert after("--from", "label", "--set", "height=720") == ["2024", 720]
    assert after("--from", "label", "--set", "height=null") == ["2024", None]
    assert after("--from", "label", "--set", "title=plain") == ["plain", None]


def test_what_is_typed_for_items_becomes_what_they_take(server: Mapping[str, str], run: Run) -> None:
    run("submit", f"{FLOWS}:labelled_each", "-i", "numbers=[null, null]", "--id", "each-labelled", "--wait")
    for words in (("--from", "tagged", "--set", "height=480"), ("--from", "tagged[1]", "--set", "number=7")):
        assert flowq("retry", "each-labelled", *words, env=server).code == 0
        run("result", "each-labelled")
    assert json.loads(run("result", "each-labelled").out) == [[None, 480], ["7", 480]]


def test_where_the_code_is_not_known_a_retry_changes_no_kind_of_value(server: Mapping[str, str], run: Run, finished: str) -> None:
    for value, code in (("many", 2), ("[1]", 2), ("true", 2)):
        refused = flowq("retry", finished, "--from", "measure", "--set", f"times={value}", env=server)
        assert (refused.code, "expected a number, as it is stored" in refused.err) == (code, True), refused


def test_arguments_that_no_stage_could_have_are_refused(run: Run, finished: str) -> None:
    refused = run("retry", finished, "--set", "times=2")
    assert (refused.code, "--from" in refused.err) == (2, True)


def test_inspect_takes_a_unique_beginning(run: Run, finished: str) -> None:
    assert run("inspect", "finish").code == 0


def test_inspect_in_json_has_everything(run: Run, finished: str) -> None:
    document = json.loads(run("inspect", finished, "--json", "--events").out)
    assert (document["schema_version"], document["kind"]) == (1, "flow")
    flow = document["data"]
    assert (flow["id"], flow["state"], flow["inputs"]) == ("finished", "completed", {"text": "hello", "times": 1})
    assert [stage["name"] for stage in flow["graph"]] == ["measure", "write"]
    assert flow["graph"][0]["result"] == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", flow["created_at"])
    verbs = [(event["verb"], event["stage"]) for event in flow["events"]]
    assert verbs[0] == ("added", None)
    assert ("claimed", "measure") in verbs
    assert verbs[-1] == ("completed", None)


@pytest.mark.parametrize(("output", "begins"), [("mermaid", "flowchart LR\n"), ("dot", "digraph flow {\n"), ("svg", "<svg ")])
def test_inspect_draws_the_graph(run: Run, finished: str, output: str, begins: str) -> None:
    ran = run("inspect", finished, "-o", output)
    assert ran.out.startswith(begins)
    assert "measure" in ran.out


def test_inspect_of_a_stuck_flow_says_why(run: Run) -> None:
    run("submit", f"{FLOWS}:stuck", "--id", "stuck")
    assert "no worker serves queue nobody-serves-this" in run("inspect", "stuck").out


def test_inspect_of_a_failed_flow_tells_the_cause_and_cleans_it(run: Run, failed: str) -> None:
    ran = run("inspect", failed, "--events", "--color", "never")
    assert "refuse failed after 2 of 2 attempts: ValueError" in ran.out
    assert [char for char in ran.out if not char.isprintable() and char != "\n"] == []


@pytest.mark.parametrize("words", [["inspect", "broken"], ["inspect", "broken", "--events"], ["watch", "broken"], ["list"]])
def test_nothing_hostile_reaches_a_terminal(server: Mapping[str, str], failed: str, words: list[str]) -> None:
    shown = in_terminal(*words, env=server).out
    # What remains after flowq's own colours and cursor moves must be printable.
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert [char for char in shown if not char.isprintable() and char not in "\n\r"] == []


def test_watch_prints_one_line_per_change_and_its_code_tells_the_outcome(run: Run, finished: str, failed: str) -> None:
    ran = run("watch", finished)
    assert ran.code == 0
    assert [line.split()[2] for line in ran.out.splitlines()][:2] == ["added", "claimed"]
    assert run("watch", failed).code == 5


def test_watch_in_jsonl_is_one_event_a_line_and_then_the_flow(run: Run, finished: str) -> None:
    documents = [json.loads(line) for line in run("watch", finished, "-o", "jsonl").out.splitlines()]
    assert {document["kind"] for document in documents[:-1]} == {"event"}
    assert documents[-1]["data"]["state"] == "completed"


def test_watch_gives_up_after_its_timeout(run: Run) -> None:
    run("submit", f"{FLOWS}:stuck", "--id", "stuck")
    assert run("watch", "stuck", "--timeout", "0.2").code == 124
    assert run("result", "stuck", "--timeout", "0").code == 124


def test_watch_in_a_terminal_redraws_until_the_end(server: Mapping[str, str], run: Run, gate: Gate) -> None:
    run("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", "--id", "live")
    with Terminal(["watch", "live"], env=server) as terminal:
        terminal.until("waiting at the gate")
        gate.open("there")
        ran = terminal.end()
    assert ran.code == 0
    assert "RUNNING" in ran.out
    assert "COMPLETED" in ran.out.rsplit("RUNNING", 1)[-1]


def test_ctrl_c_ends_watch_with_130_and_leaves_the_flow_alone(server: Mapping[str, str], run: Run, gate: Gate) -> None:
    run("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", "--id", "interrupted")
    with Terminal(["watch", "interrupted"], env=server) as terminal:
        terminal.until("waiting at the gate")
        terminal.press("\x03")
        ran = terminal.end()
    assert ran.code == 130
    assert "Traceback" not in ran.out
    gate.open("there")
    assert json.loads(run("result", "interrupted").out) == "there"


def test_list_shows_only_flows_that_fit_its_filters(run: Run, finished: str, failed: str) -> None:
    assert "finished" in run("list").out
    assert json.loads(run("list", "--tag", "beta", "--json").out)["data"][0]["id"] == "finished"
    assert json.loads(run("list", "--tenant", "acme", "--json").out)["data"][0]["tenant"] == "acme"
    failures = [json.loads(line)["data"] for line in run("list", "--state", "failed", "-o", "jsonl").out.splitlines()]
    assert "broken" in [flow["id"] for flow in failures]
    assert {flow["state"] for flow in failures} == {"failed"}
    assert json.loads(run("list", "--search", "no-such", "--json").out)["data"] == []
    assert "--limit" in run("list", "--limit", "1").err


def test_result_prints_json(run: Run, finished: str, failed: str) -> None:
    assert json.loads(run("result", finished).out)["size"] == 1
    assert json.loads(run("result", finished, "--json").out)["data"]["id"] == "finished"
    assert run("result", failed).code == 5


def test_artifact_downloads_and_never_overwrites_unasked(run: Run, finished: str, tmp_path: Path) -> None:
    assert run("artifact", finished, "write", cwd=tmp_path).code == 0
    assert (tmp_path / "length.txt").read_text() == "5"
    assert run("artifact", finished, "write", "length.txt", cwd=tmp_path).code == 2
    assert run("artifact", finished, "write", "-O", "other.txt", "--json", cwd=tmp_path).code == 0
    assert run("artifact", finished, "write", "-O", "-").out == "5"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_artifact_that_is_sent_to_a_device_does_not_replace_it(run: Run, finished: str, tmp_path: Path) -> None:
    """/dev/null would be an ordinary file from then on, for everybody."""
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit((tmp_path / "pipe").read_bytes)
        assert run("artifact", finished, "write", "-O", "pipe", cwd=tmp_path).code == 0
        assert read.result(30) == b"5"
    assert (tmp_path / "pipe").is_fifo()


def test_an_artifact_is_written_where_a_link_leads_and_the_link_stays(run: Run, finished: str, tmp_path: Path) -> None:
    """/dev/stdout is a link, and leads to an ordinary file when that is what stdout is."""
    (tmp_path / "beneath").mkdir()
    os.mkfifo(tmp_path / "beneath" / "pipe")
    (tmp_path / "beneath" / "old").write_text("old")
    for name in ("old", "new", "pipe"):
        (tmp_path / name).symlink_to(Path("beneath", name))
    assert run("artifact", finished, "write", "-O", "old", cwd=tmp_path).code == 2, "it would overwrite a file"
    assert (tmp_path / "old").read_text() == "old"
    assert run("artifact", finished, "write", "-O", "old", "--force", cwd=tmp_path).code == 0
    assert run("artifact", finished, "write", "-O", "new", cwd=tmp_path).code == 0
    with ThreadPoolExecutor(1) as threads:
        read = threads.submit((tmp_path / "pipe").read_bytes)
        assert run("artifact", finished, "write", "-O", "pipe", "--force", cwd=tmp_path).code == 0
        assert read.result(30) == b"5"
    assert {path.name: path.is_symlink() for path in tmp_path.iterdir()} == {
        "beneath": False, "old": True, "new": True, "pipe": True,
    }  # fmt: skip
    assert {path.name: path.is_fifo() or path.read_text() for path in (tmp_path / "beneath").iterdir()} == {
        "old": "5", "new": "5", "pipe": True,
    }  # fmt: skip
    (tmp_path / "nowhere").symlink_to(Path("gone", "file"))
    assert "there is no directory" in run("artifact", finished, "write", "-O", "nowhere", cwd=tmp_path).err


def test_one_artifact_of_several_must_be_named(run: Run, tmp_path: Path) -> None:
    assert run("submit", f"{FLOWS}:several", "--id", "several", "--wait").code == 0
    ran = run("artifact", "several", "write_*", cwd=tmp_path)
    assert ran.code == 2
    assert "write_both video.mp4, write_both captions.vtt" in ran.err
    assert run("artifact", "several", "write_*", "captions.vtt", cwd=tmp_path).code == 0
    assert (tmp_path / "captions.vtt").read_text() == "x"


def test_cancel_and_retry_one_flow(run: Run, gate: Gate) -> None:
    run("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", "--id", "steered")
    with gate.arrival():
        assert run("cancel", "steered", "--reason", "changed my mind").code == 0
        assert run("result", "steered").code == 6
    assert "changed my mind" in run("inspect", "steered").out
    assert "1 stage to run again" in run("retry", "steered").err
    gate.open("now")
    assert json.loads(run("result", "steered").out) == "now"


def test_without_a_terminal_a_guessed_id_changes_nothing(run: Run, failed: str) -> None:
    for command in ("cancel", "retry"):
        ran = run(command, "brok")
        assert ran.code == 2
        assert "--yes" in ran.err
    assert run("cancel", "brok", "--yes").code == 0


@pytest.mark.usefixtures("impatient")
def test_doctor_finds_a_healthy_server_well_and_a_missing_one_not(run: Run) -> None:
    document = json.loads(run("doctor", "--json").out)
    assert {finding["level"] for finding in document["data"]} <= {"ok", "warn", "fail"}
    assert run("doctor").code == 1, "the server of the tests keeps no append-only file"
    ran = run("doctor", env={"FLOWQ_URL": "redis://127.0.0.1:1"})
    assert ran.code == 1
    assert "does not answer" in ran.out


@pytest.mark.usefixtures("impatient")
def test_an_unreachable_server_ends_with_4_and_shows_no_password(run: Run) -> None:
    ran = run("list", env={"FLOWQ_URL": "redis://me:hush@127.0.0.1:1"})
    assert ran.code == 4
    assert "hush" not in ran.err + ran.out


def test_doctor_counts_the_processes_a_worker_was_asked_for(run: Run, finished: str) -> None:
    assert "1 worker process serves default" in " ".join(run("doctor").out.split())


def test_config_tells_where_values_came_from(run: Run) -> None:
    ran = run("config", "--json", "-u", "redis://me:hush@h:1", env={"FLOWQ_NAMSPACE": "x"})
    settings = json.loads(ran.out)["data"]
    assert settings["url"] == {"value": "redis://me:***@h:1", "source": "flag"}
    assert settings["namespace"]["source"] == "FLOWQ_NAMESPACE"
    assert "FLOWQ_NAMSPACE" in ran.err


@pytest.mark.parametrize("words", [["-n", "dev"], ["--namespace", "retry"], ["--artifacts=file:/x", "-u", "list"]])
def test_the_value_of_an_option_may_be_called_like_a_command(words: list[str]) -> None:
    parsed = parse([*words, "list", "--limit", "7"])
    assert (parsed.command, parsed.limit) == ("list", 7)


def test_options_work_before_and_behind_the_command(run: Run, finished: str) -> None:
    assert run("--json", "list").out == run("list", "--json").out


def test_version_and_help_need_no_server(tmp_path: Path) -> None:
    for words in (["version"], ["--version"], ["--help"], ["inspect", "--help"], ["version", "--json"]):
        assert flowq(*words, cwd=tmp_path).code == 0


def test_an_idle_worker_ends_with_0_when_it_was_told_to(server: Mapping[str, str]) -> None:
    assert flowq("worker", FLOWS, "-q", "nobody-serves-this-either", "--idle-timeout", "100ms", env=server).code == 0


def test_a_burst_worker_does_what_there_is_and_ends(server: Mapping[str, str], run: Run) -> None:
    run("submit", f"{FLOWS}:stuck", "--id", "for-the-burst")
    assert flowq("worker", FLOWS, "-q", "nobody-serves-this", "--burst", env=server).code == 0
    assert run("result", "for-the-burst").out == "1\n"


def test_a_reader_that_has_seen_enough_is_no_error(server: Mapping[str, str], finished: str) -> None:
    command = f"{sys.executable} -m flowq watch finished -o jsonl | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment(server), cwd=ROOT, capture_output=True, timeout=40)
    assert (done.returncode, done.stderr) == (0, b"")


def test_text_of_all_languages_is_printed_as_it_is(run: Run) -> None:
    ran = run("submit", f"{FLOWS}:measure", "-i", "text=größer 東京", "--id", "text-of-all-languages", "--wait")
    assert ran.code == 0
    assert '"größer 東京"' in run("inspect", "text-of-all-languages").out
    assert '"größer 東京"' in run("inspect", "text-of-all-languages", "--json").out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_stays_json_where_the_encoding_lacks_a_character(server: Mapping[str, str], run: Run, encoding: str) -> None:
    text = "größer 東京 🎬"
    run("submit", f"{FLOWS}:measure", "-i", f"text={text}", "--id", f"text-in-{encoding}", "--wait")
    command = [sys.executable, "-m", "flowq", "inspect", f"text-in-{encoding}", "--json"]
    env = environment({**server, "PYTHONIOENCODING": encoding})
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, timeout=40)
    assert json.loads(done.stdout.decode(encoding))["data"]["inputs"]["text"] == text


def test_closed_streams_and_old_encodings_do_not_matter(server: Mapping[str, str], finished: str) -> None:
    command = f"{sys.executable} -m flowq inspect finished >&-"
    assert subprocess.run(["bash", "-c", command], env=environment(server), cwd=ROOT, timeout=40).returncode == 0
    ascii_only = flowq("inspect", finished, env={**server, "PYTHONIOENCODING": "ascii"})
    assert ascii_only.out.isascii()
    assert "+   " in ascii_only.out or "+ * " in ascii_only.out


@pytest.mark.parametrize(
    ("env", "words", "coloured"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({}, ["--color", "never"], False),
        ({"TERM": "dumb"}, [], False),
    ],
)
def test_colours_follow_the_terminal_and_the_user(
    server: Mapping[str, str], finished: str, env: dict[str, str], words: list[str], coloured: bool
) -> None:
    ran = in_terminal("inspect", finished, *words, env={**server, **env})
    assert ("\x1b[32m" in ran.out) is coloured


@pytest.mark.parametrize("width", [60, 120])
def test_the_view_has_the_terminal_s_width(server: Mapping[str, str], finished: str, width: int) -> None:
    ran = in_terminal("inspect", finished, width=width, env={**server, "NO_COLOR": "1"})
    widest = max(len(line) for line in ran.out.splitlines())
    assert width - 20 < widest <= width


def test_many_flows_are_retried_cancelled_and_removed_by_a_filter(run: Run) -> None:
    for number in range(2):
        assert run("submit", f"{FLOWS}:hopeless", "--id", f"bulk-{number}", "--tag", "bulk", "--wait").code == 5
    preview = run("retry", "--tag", "bulk", "--cause", "Unrecoverable: no video*", "--dry-run")
    assert preview.code == 0
    assert "bulk-0" in preview.out
    assert "Unrecoverable: no video stream" in preview.out
    assert "2 flows would be retried, 2 stages to run again" in preview.err
    refused = run("retry", "--tag", "bulk")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    report = json.loads(run("retry", "--tag", "bulk", "--yes", "--json").out)
    assert (report["kind"], report["data"]["done"], report["data"]["errors"]) == ("report", 2, [])
    for number in range(2):
        assert run("watch", f"bulk-{number}").code == 5
    assert "no flow would be cancelled" in run("cancel", "--tag", "bulk", "--dry-run").err
    assert "2 flows removed" in run("prune", "--tag", "bulk", "--state", "failed", "--yes").err
    assert run("inspect", "bulk-0").code == 3


def test_dead_letters_are_listed_shown_and_discarded(run: Run) -> None:
    for number in range(2):
        assert run("submit", f"{FLOWS}:hopeless", "--id", f"dead-{number}", "--tenant", "dead", "--wait").code == 5
    (group,) = json.loads(run("dead", "list", "--tenant", "dead", "--json").out)["data"]
    assert (group["pipeline"], group["stage"], group["count"]) == ("hopeless", "watch_video", 2)
    listed = run("dead", "list", "--tenant", "dead").out
    assert group["key"] in listed
    assert "Unrecoverable: no video stream" in listed
    assert "dead-1" in run("dead", "show", group["key"]).out
    assert "--yes" in run("dead", "discard", group["key"], "--tenant", "dead").err
    assert "would be retried" in run("dead", "retry", group["key"], "--tenant", "dead", "--dry-run").err
    assert "2 flows removed" in run("dead", "discard", group["key"], "--tenant", "dead", "--yes").err
    assert "no failed flows" in run("dead", "list", "--tenant", "dead").err
    assert run("dead", "show", "00000000").code == 3


def test_a_flow_is_found_by_its_artifact_and_a_list_goes_on_behind_one(run: Run, finished: str) -> None:
    key = json.loads(run("result", finished).out)["key"]
    (found,) = json.loads(run("list", "--artifact", key, "--json").out)["data"]
    assert found["id"] == finished
    first, *_ = json.loads(run("list", "--limit", "1", "--json").out)["data"]
    assert first["id"] not in run("list", "--after", first["id"], "--limit", "100").out.split()


def test_a_release_is_held_against_the_flows_in_flight(run: Run, server: Mapping[str, str], tmp_path: Path) -> None:
    assert run("submit", f"{FLOWS}:stuck", "--id", "in-flight").code == 0
    assert run("check", FLOWS).code == 0
    release = tmp_path / "release.py"
    release.write_text("from flowq import stage\n\n@stage\ndef something() -> int:\n    return 1\n", "utf-8")
    refused = flowq("check", str(release), env=server, cwd=tmp_path)
    assert refused.code == 1
    assert "the release has no stage orphan" in refused.out
    document = json.loads(flowq("check", str(release), "--json", env=server, cwd=tmp_path).out)
    assert document["kind"] == "check"
    assert "in-flight" in document["data"]["strandings"][0]["examples"]
    run("cancel", "in-flight")


def test_logs_and_usage_are_shown(run: Run) -> None:
    assert run("submit", f"{FLOWS}:talking", "-i", "name=you", "--id", "talked", "--tenant", "talkers", "--wait").code == 0
    shown = run("logs", "talked")
    assert re.search(r"talk +WARNING +talking to you\\x1b\[31m", shown.out)
    assert run("logs", "talked", "--follow").out == shown.out
    (line,) = json.loads(run("logs", "talked", "tal*", "--json").out)["data"]
    assert (line["stage"], line["attempt"], line["level"]) == ("talk", 1, "WARNING")
    assert run("logs", "talked", "nobody").code == 3
    assert "tokens 7" in run("inspect", "talked").out
    (used,) = json.loads(run("usage", "--tenant", "talkers", "--json").out)["data"]
    assert (used["pipeline"], used["amounts"]) == ("talking", {"tokens": 7.0})
    assert "tokens 7" in run("usage", "--pipeline", "talking").out
    assert "nothing was metered" in run("usage", "--tenant", "nobody").err
    assert run("usage", "--days", "0").code == 2


def test_a_flow_is_told_what_it_waits_for(run: Run) -> None:
    run("submit", f"{FLOWS}:approving", "--id", "approving")
    eventually(lambda: "SUSPENDED" in run("inspect", "approving").out)
    shown = run("inspect", "approving").out
    assert "waits for signal approved" in shown
    assert "flowq signal approving approved VALUE" in shown
    (waiting,) = [
        stage for stage in json.loads(run("inspect", "approving", "--json").out)["data"]["graph"] if stage["name"] == "approved"
    ]
    assert (waiting["state"], waiting["reason"]["code"], waiting["reason"]["on"]) == ("suspended", "signal", ["approved"])
    wrong = run("signal", "approving", "approved", "ada")
    assert (wrong.code, "is no JSON" in wrong.err) == (2, True)
    sent = run("signal", "approving", "approved", '{"by": "ada"}')
    assert (sent.code, sent.err) == (0, "approving: signal approved was sent\n")
    again = run("signal", "approving", "approved", '{"by": "ada"}', "--json")
    assert (again.code, json.loads(again.out)["data"]["is_new"]) == (0, False)
    assert run("signal", "approving", "approved", '{"by": "eve"}').code == 1
    assert run("result", "approving").out == '"published by ada"\n'
    assert run("signal", "approving", "approved").code == 1
    assert run("signal", "nobody-here", "approved").code == 3
