"""The documentation tells the truth: every code block runs, every link leads somewhere."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.house.blocks import Block, blocks, commands, missing_line
from tests.house.project import ROOT, documents

DOCUMENT_SECONDS_MAX = 150
# Its blocks have a cluster, those of all others a server.
ON_CLUSTER = "cluster.md"
LANGUAGES = {"python", "console", "bash", "text", "toml", "yaml", "json", "mermaid"}
WORDS = {"title", "output", "exit", "background", "not-run"}
# What can't run in a test, but whose words can be checked.
CHECKED_COMMANDS = ("pip install ", "git clone ", "docker compose ", "make", "cd ")
DIAGRAMS = ("flowchart ", "stateDiagram-v2", "sequenceDiagram", "graph ")


def _named(paths: Iterable[Path]) -> list[Any]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


DOCUMENTS = _named(documents())


@pytest.fixture(scope="session")
def project() -> Iterator[Path]:
    """A directory with embedded servers of its own, as `flowq dev` leaves it."""
    from flowq.embedded import attach

    directory = Path(tempfile.mkdtemp(prefix="fqd-", dir="/tmp"))  # short: unix sockets lie in it
    (directory / ".git").mkdir()  # that the folders below, one for each page, are of this project
    attachment = attach(directory / ".flowq")
    command = directory / "bin" / "flowq"  # of this checkout, installed or not
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m flowq "$@"\n', "utf-8")
    command.chmod(0o755)
    try:
        yield directory
    finally:
        attachment.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", _named(path for path in documents() if list(blocks(path))))
def test_every_code_block_runs(document: Path, project: Path, request: pytest.FixtureRequest) -> None:
    """Each file from top to bottom, against real servers; what it shows as output is what is printed."""
    directory = project / document.relative_to(ROOT).as_posix().replace("/", "-")
    directory.mkdir()
    for name in ("examples", "Makefile", "docker-compose.yml"):
        (directory / name).symlink_to(ROOT / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "AWS_"))}
    environment |= {
        "FLOWQ_NAMESPACE": f"docs-{secrets.token_hex(4)}",
        "PATH": f"{project / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "PYTHONUNBUFFERED": "1",
    }
    if document.name == ON_CLUSTER and document.parent.name == "how-to":
        environment["FLOWQ_URL"] = request.getfixturevalue("cluster").url
    argv = [sys.executable, "-m", "tests.house.document", str(document)]
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    run = subprocess.Popen(argv, cwd=directory, env=environment, text=True, **streams)
    try:
        printed, _ = run.communicate(timeout=DOCUMENT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        run.terminate()  # it stops what it started, and says where it was
        printed, _ = run.communicate()
    assert run.returncode == 0, printed


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_code_block_says_what_it_is(document: Path) -> None:
    """A language the runner knows, and no word it would overlook."""
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{block.where}: language {block.language!r}"
        assert set(block.words) <= WORDS, f"{block.where}: {block.words}"
        if block.language == "mermaid":
            assert block.text.lstrip().startswith(DIAGRAMS), block.where
            assert all(block.text.count(a) == block.text.count(b) for a, b in ("[]", "()", "{}")), block.where


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_cannot_run_here_name_things_that_exist(document: Path) -> None:
    """Targets of make, extras of the package, files of compose."""
    for block in (block for block in blocks(document) if "not-run" in block.words):
        for line in _command_lines(block):
            assert line.startswith(CHECKED_COMMANDS), f"{block.where}: {line!r} could run, so it must"
            for extras in re.findall(r"\[([\w,-]+)\]", line) if "pip install" in line else ():
                assert set(extras.split(",")) <= _extras(), f"{block.where}: {line}"
            if target := re.fullmatch(r"make (\w[\w-]*).*", line):
                assert f"\n{target[1]}:" in (ROOT / "Makefile").read_text("utf-8"), f"{block.where}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Relative links and their anchors; other people's sites are theirs to keep."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in _anchors(path), f"{document.name}: {target}"


def test_every_page_of_the_documentation_can_be_reached() -> None:
    """By links from README.md; a page nobody finds was written for nobody."""
    reached, open_ends = {ROOT / "README.md"}, [ROOT / "README.md"]
    while open_ends:
        page = open_ends.pop()
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text("utf-8")):
            linked = (page.parent / target).resolve()
            if linked.suffix == ".md" and linked.exists() and linked not in reached:
                reached.add(linked)
                open_ends.append(linked)
    pages = {path for path in documents() if path.is_relative_to(ROOT / "docs")}
    assert sorted(path.relative_to(ROOT).as_posix() for path in pages - reached) == []


def test_shown_output_is_compared_line_by_line_and_in_order() -> None:
    """The comparison itself: anything for `…`; times, bars and spaces do not count, all else does."""
    assert missing_line(["a … d", "took 3s"], "x\na b c d\n took   1.52s\n") is None
    assert missing_line(["took 3s", "a"], "a\ntook 1s\n") == "a"
    assert missing_line(["exactly"], "exactly so\n") == "exactly"
    assert missing_line(["…"], "") is None
    assert missing_line(["✔ read  ░░█  1/3 …"], "✔ read ░░░░░░░█████   1/3 host-1 12ms") is None
    assert missing_line(["✔ read  ░░█  1/3 …"], "✔ read ░░░░░░░█████   2/3 host-1 12ms") is not None


def _command_lines(block: Block) -> list[str]:
    if block.language == "console":
        return [command.text for command in commands(block)]
    lines = [line.split("  #")[0].strip() for line in block.text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _extras() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])


def _anchors(path: Path) -> set[str]:
    """The anchors that the usual renderers make of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}
