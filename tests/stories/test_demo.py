"""The demo, as `make demo` runs it: what it prints, what it leaves, what a failure on purpose costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import media
import pytest
import vtt

from flowq.store.keys import Keys
from tests.permanent import is_permanent
from tests.stories.conftest import PIPELINES, SPOKEN
from tests.stories.project import Project

pytest.importorskip("faster_whisper", reason="needs the extra `media`")
pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]

_VALUE_BYTES_MAX = 4096
_NEVER_EXPIRES = -1


def run_demo(project: Project, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python examples/pipelines/demo.py` in the project's directory, without a terminal."""
    return subprocess.run(
        [sys.executable, str(PIPELINES / "demo.py"), *words],
        cwd=project.directory, env=project.environment(**environment), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip


def runs_of(project: Project) -> dict[str, int]:
    """How often each stage of the latest flow ran."""
    return {stage["name"]: stage["runs"] for stage in project.inspect("latest")["graph"]}


def test_the_demo_ends_with_a_video_whose_captions_hold_the_spoken_words(project: Project) -> None:
    demo = run_demo(project)
    assert demo.returncode == 0, f"{demo.stdout}\n{demo.stderr}"
    video = project.directory / "demo-output" / "short.mp4"
    assert demo.stdout.rstrip().endswith(str(video))
    assert media.seconds_of(video) == pytest.approx(15.6, abs=0.3)
    assert vtt.words(vtt.transcript(media.captions_in(video))) == vtt.words(SPOKEN.read_text("utf-8"))
    for stage in ("download", "transcribe", "encode", "finalize"):
        assert stage in demo.stdout
    assert set(runs_of(project).values()) == {1}
    assert_redis_holds_references_only(project)


def test_a_second_demo_runs_only_what_must_run_and_says_what_it_reused(project: Project) -> None:
    first, second = run_demo(project), run_demo(project)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    listed: list[dict[str, Any]] = json.loads(project.flowq("list", "-o", "json"))["data"]
    newest, oldest = (flow["id"] for flow in listed)  # on the same servers, and each a flow of its own
    assert newest != oldest
    assert runs_of(project) == {"download": 1, "transcribe": 0, "encode": 0, "finalize": 0}
    graph = project.inspect(newest)["by_name"]
    assert {name: stage["reused"] and stage["reused"]["flow"] for name, stage in graph.items()} == {
        "download": None, "transcribe": oldest, "encode": oldest, "finalize": oldest,
    }  # fmt: skip
    assert "Reused" not in first.stdout
    assert f"Reused: encode from flow {oldest}, transcribe from flow {oldest}, finalize from flow {oldest}" in second.stdout
    assert f"reused from flow {oldest}" in second.stdout
    video = project.directory / "demo-output" / "short.mp4"
    assert vtt.words(vtt.transcript(media.captions_in(video))) == vtt.words(SPOKEN.read_text("utf-8"))
    assert_redis_holds_references_only(project)
    third = run_demo(project, "--no-cache")
    assert third.returncode == 0, third.stderr
    assert set(runs_of(project).values()) == {1}


def test_what_is_to_fail_in_a_second_demo_fails(project: Project) -> None:
    assert run_demo(project).returncode == 0
    demo = run_demo(project, FLOWQ_DEMO_FAIL="encode")
    assert demo.returncode == 0, demo.stderr
    assert runs_of(project) == {"download": 1, "transcribe": 1, "encode": 2, "finalize": 1}


def test_a_failing_encode_costs_one_stage(project: Project) -> None:
    demo = run_demo(project, FLOWQ_DEMO_FAIL="encode")
    assert demo.returncode == 0, f"{demo.stdout}\n{demo.stderr}"
    assert runs_of(project) == {"download": 1, "transcribe": 1, "encode": 2, "finalize": 1}
    encode = project.inspect("latest")["by_name"]["encode"]
    assert (encode["attempt"], encode["state"]) == (2, "completed")
    assert "fails on purpose" in encode["history"][0]["cause"]


def test_a_misspelt_failure_is_refused_before_anything_starts(project: Project) -> None:
    demo = run_demo(project, FLOWQ_DEMO_FAIL="encoed")
    assert demo.returncode == 1
    assert "expected one of download, transcribe, encode, finalize" in demo.stderr
    assert not (project.directory / "demo-output").exists()


def assert_redis_holds_references_only(project: Project) -> None:
    """No value is larger than 4 kB; every key expires or is on the documented list of permanent ones."""
    with project.redis() as client:
        names: list[Any] = list(client.scan_iter(count=1000))
        assert names
        too_large = {name: size for name in names for size in sizes_of(client, name) if size > _VALUE_BYTES_MAX}
        eternal = [name.decode() for name in names if client.pttl(name) == _NEVER_EXPIRES]
    assert too_large == {}
    assert [name for name in eternal if not is_permanent(Keys("flowq"), name)] == []


def sizes_of(client: Any, name: bytes) -> Iterator[int]:
    """The length of every value under a key: members, fields and entries, each for itself."""
    read: dict[bytes, Callable[[], Iterable[bytes]]] = {
        b"string": lambda: [client.get(name)],
        b"hash": lambda: client.hvals(name),
        b"list": lambda: client.lrange(name, 0, -1),
        b"set": lambda: client.smembers(name),
        b"zset": lambda: client.zrange(name, 0, -1),
        b"stream": lambda: [value for _, entry in client.xrange(name) for value in entry.values()],
    }
    # A key may expire between the scan and here: its type is then "none".
    yield from (len(value) for value in read.get(client.type(name), list)())


def test_the_demo_needs_no_terminal_and_paints_none(project: Project) -> None:
    demo = run_demo(project, FLOWQ_DEMO_FAIL="download")
    assert demo.returncode == 0, demo.stderr
    assert "\x1b" not in demo.stdout + demo.stderr
    assert Path(project.directory / "demo-output" / "worker.log").exists()
