"""Data directories: odd but usable ones are used, others refused with a reason and a remedy, before anything is started."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.embedded import attach
from flowq.embedded.directory import DataDirectory
from flowq.errors import DataDirectoryUnusable
from tests.embedded.conftest import client_of, endpoint_of, stop_keeper

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")
_NOBODY = 65_534


@pytest.mark.parametrize("name", ["däta-目录", "with space", "per%20cent", 'quote"s and \\', "#hash?query", "tab\tnewline\n"])
def test_any_name_will_do(home: Path, name: str) -> None:
    with attach(home / name, s3=False) as attachment, client_of(attachment.url) as client:
        assert client.set("key", "value")
        assert client.config_get("unixsocket")["unixsocket"] == str(home / name / "run" / "valkey.sock")


def test_a_name_that_is_no_text_is_refused(home: Path) -> None:
    with pytest.raises(DataDirectoryUnusable, match=r"caf\\xe9: has a name that is no UTF-8 text"):
        attach(home / os.fsdecode(b"caf\xe9"), s3=False)
    assert list(home.iterdir()) == []


def test_a_path_too_long_for_sockets_gets_its_sockets_in_a_short_private_folder(home: Path) -> None:
    directory = home / ("long-" * 30) / ".flowq"
    directory.parent.mkdir()
    try:
        with attach(directory, s3=False, linger_seconds=0.1) as attachment, client_of(attachment.url) as client:
            assert client.set("key", "value")
            runtime = Path(endpoint_of(directory).runtime)
            assert home not in runtime.parents
            assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
            assert len(os.fsencode(runtime)) < 90
    finally:
        stop_keeper(directory)
    assert not runtime.exists()


def test_a_guessable_folder_that_is_not_private_is_not_used_for_sockets(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    place = DataDirectory(home / ("long-" * 30))
    guessed = place.make_runtime()
    assert guessed.parent == home
    guessed.chmod(0o755)
    other = place.make_runtime()
    assert other != guessed
    other.rmdir()
    guessed.rmdir()


def test_an_open_directory_is_made_private(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    DataDirectory.prepare(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_file_is_refused(directory: Path) -> None:
    directory.write_text("a file")
    _assert_refused(directory, "is not a directory")
    _assert_refused(directory / "below", "is not a directory")


def test_a_symbolic_link_is_refused_and_its_target_named(home: Path, directory: Path) -> None:
    directory.symlink_to(home, target_is_directory=True)
    _assert_refused(directory, "is a symbolic link", remedy=str(home))


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    (directory / "thesis.txt").write_text("years of work")
    _assert_refused(directory, "has files that are not flowq's")
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755


def test_a_symbolic_link_in_place_of_the_lock_is_refused(home: Path, directory: Path) -> None:
    directory.mkdir()
    (directory / "lock").symlink_to(home / "elsewhere")
    _assert_refused(directory, "symbolic link in place of its lock")
    assert not (home / "elsewhere").exists()


def test_a_name_that_is_too_long_is_refused(home: Path) -> None:
    _assert_refused(home / ("n" * 300), "too long")


@as_root
def test_someone_elses_directory_is_refused(directory: Path) -> None:
    directory.mkdir()
    os.chown(directory, _NOBODY, _NOBODY)
    _assert_refused(directory, "belongs to ", remedy="choose another directory")


@pytest.fixture
def mounted(home: Path) -> Iterator[Path]:
    folder = home / "mounted"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@as_root
def test_a_read_only_file_system_is_refused(mounted: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    _assert_refused(mounted / ".flowq", "read-only file system")


@as_root
def test_a_full_file_system_is_refused(mounted: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (mounted / "filler").write_bytes(b"x" * 100_000)
    _assert_refused(mounted / ".flowq", "no space is left")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no files")
def test_a_place_that_takes_no_files_is_refused() -> None:
    _assert_refused(Path("/proc/flowq"), "can't be used")


def _assert_refused(directory: Path, reason: str, remedy: str = "") -> None:
    with pytest.raises(DataDirectoryUnusable) as refusal:
        attach(directory, s3=False)
    assert reason in refusal.value.problem
    assert str(directory) in refusal.value.problem
    assert remedy in refusal.value.remedy
    assert refusal.value.remedy
