"""`kill -9` in the middle of an encode: of the process that runs it, of the whole worker, of the database, of its keeper.

Each time the flow completes and every other stage has run once. The first encode takes as long as the clip plays, on any
machine, so that there is time to kill something; the second is as fast as it can be.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import media
import pytest

from tests.embedded.conftest import server_pid
from tests.stories.processes import Process, all_processes, encoders_under, needs_proc
from tests.stories.project import NOTES, SHORT_VIDEO, Project, kill, moment

pytest.importorskip("faster_whisper", reason="needs the extra `media`")
pytestmark = [
    pytest.mark.story,
    pytest.mark.fault,
    pytest.mark.timeout(400),
    needs_proc,
]

_CHILD_TAKEOVER_SECONDS_MAX = 1.0
_WORKER_TAKEOVER_SECONDS_MAX = 15.0 + 5.0  # the lease, and five seconds
_FLOW_SECONDS_MAX = 120


# `-re` reads as fast as it plays. Who makes the directory is the first.
_FFMPEG = """#!/bin/sh
case "$*" in *libx264*) mkdir {once} 2>/dev/null && set -- -re "$@" ;; esac
exec {ffmpeg} "$@"
"""


@pytest.fixture(autouse=True)
def _slow_first_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `media.ffmpeg()` finds in the workers of the test."""
    once, ffmpeg = shlex.quote(str(tmp_path / "once")), shlex.quote(media.ffmpeg())
    program = tmp_path / "ffmpeg"
    program.write_text(_FFMPEG.format(once=once, ffmpeg=ffmpeg), "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))


def begin_long_encode(project: Project, clip_url: str) -> str:
    """A flow whose encode takes long enough to be killed; returns its id when encode alone is left to be done."""
    flow_id = project.submit(f"{SHORT_VIDEO}:short_video", url=clip_url)
    project.until(flow_id, 60, only_encode_runs)
    return flow_id


def only_encode_runs(snapshot: dict[str, Any]) -> bool:
    """Whether everything but encode and finalize has completed, and encode has begun to produce frames."""
    stages = snapshot["by_name"]
    return stages["transcribe"]["state"] == "completed" and (stages["encode"]["progress"] or 0) > 0


def encoder_of(*workers: subprocess.Popen[bytes]) -> tuple[Process, subprocess.Popen[bytes]]:
    """The only running ffmpeg, and the worker below which it runs."""
    found = [(encoder, worker) for worker in workers for encoder in encoders_under(worker.pid)]
    assert len(found) == 1, found
    return found[0]


def assert_only_encode_ran_twice(snapshot: dict[str, Any]) -> None:
    runs = {name: stage["runs"] for name, stage in snapshot["by_name"].items()}
    assert runs == {"download": 1, "transcribe": 1, "encode": 2, "finalize": 1}


@pytest.mark.alone
def test_a_killed_child_costs_one_stage_and_less_than_a_second(project: Project, clip_url: str) -> None:
    worker = project.worker(SHORT_VIDEO)
    flow_id = begin_long_encode(project, clip_url)
    encoder, _ = encoder_of(worker)
    killed_at = kill(encoder.parent)
    again = project.until(flow_id, 30, lambda snapshot: snapshot["by_name"]["encode"]["runs"] == 2)
    assert encoder.pid not in all_processes(), "ffmpeg outlived the process that ran its stage"
    assert moment(again["by_name"]["encode"]["started_at"]) - killed_at < _CHILD_TAKEOVER_SECONDS_MAX
    assert_only_encode_ran_twice(project.until_completed(flow_id, _FLOW_SECONDS_MAX))
    assert worker.poll() is None


def test_another_worker_takes_over_from_a_killed_one(project: Project, clip_url: str) -> None:
    workers = project.worker(SHORT_VIDEO), project.worker(SHORT_VIDEO)
    flow_id = begin_long_encode(project, clip_url)
    encoder, victim = encoder_of(*workers)
    killed_at = kill(victim.pid)
    again = project.until(flow_id, 40, lambda snapshot: snapshot["by_name"]["encode"]["runs"] == 2)
    assert encoder.pid not in all_processes(), "ffmpeg outlived its worker"
    assert moment(again["by_name"]["encode"]["started_at"]) - killed_at < _WORKER_TAKEOVER_SECONDS_MAX
    assert_only_encode_ran_twice(project.until_completed(flow_id, _FLOW_SECONDS_MAX))


def test_a_worker_started_later_finishes_what_a_killed_one_began(project: Project, clip_url: str) -> None:
    worker = project.worker(SHORT_VIDEO)
    flow_id = begin_long_encode(project, clip_url)
    kill(worker.pid)
    project.worker(SHORT_VIDEO)
    assert_only_encode_ran_twice(project.until_completed(flow_id, _FLOW_SECONDS_MAX))


def test_a_killed_database_loses_nothing_that_was_acknowledged(project: Project, clip_url: str) -> None:
    project.worker(SHORT_VIDEO)
    flow_id = begin_long_encode(project, clip_url)
    notes = [project.submit(f"{NOTES}:note", text=f"note {number}") for number in range(5)]
    kill(server_pid(project.servers.url))
    assert project.inspect(flow_id)["by_name"]["transcribe"]["state"] == "completed"
    project.worker(NOTES)
    for number, note in enumerate(notes):
        project.until_completed(note, 30)
        assert project.flowq("result", note, "-o", "json").count(f"kept: note {number}") == 1
    runs = {name: stage["runs"] for name, stage in project.until_completed(flow_id, _FLOW_SECONDS_MAX)["by_name"].items()}
    # The worker may have kept encode through the outage, or have had to begin it again; nothing else ran twice.
    assert runs | {"encode": 1} == dict.fromkeys(runs, 1)


def test_a_killed_keeper_is_replaced_by_the_next_command(project: Project, clip_url: str) -> None:
    project.worker(SHORT_VIDEO)
    flow_id = begin_long_encode(project, clip_url)
    kill(project.servers.keeper_pid)
    assert project.inspect(flow_id)["by_name"]["transcribe"]["state"] == "completed"
    runs = {name: stage["runs"] for name, stage in project.until_completed(flow_id, _FLOW_SECONDS_MAX)["by_name"].items()}
    assert runs | {"encode": 1} == dict.fromkeys(runs, 1)
