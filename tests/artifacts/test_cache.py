"""The host's cache: one download for all, never more than the budget, never pulled away from under a reader."""

from __future__ import annotations

import hashlib
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.to_thread
import pytest

from flowq.artifacts import LocalCache, Storage
from flowq.artifacts.cache import CachedFile
from flowq.artifacts.local import LocalFile
from flowq.errors import InvalidValue
from flowq.model.artifact import Artifact
from tests.artifacts.folders import FOLDER


def artifact_of(data: bytes, name: str = "x.bin") -> Artifact:
    return Artifact(f"a/{name}", len(data), checksum=hashlib.sha256(data).hexdigest())


def obtained(cache: LocalCache, data: bytes) -> CachedFile:
    return cache.obtain(artifact_of(data), lambda file: _write(file, data), lambda: None)


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def test_a_second_use_downloads_nothing(directory_storage: Storage) -> None:
    artifact = directory_storage.put_bytes(FOLDER, "talk.mp4", b"film")
    with directory_storage.local(artifact) as first:
        pass
    directory_storage.delete([artifact.key])
    with directory_storage.local(artifact) as second:
        assert (second, second.read_bytes(), second.suffix) == (first, b"film", ".mp4")


def test_one_process_downloads_for_all_that_wait(tmp_path: Path) -> None:
    # Locks belong to open files, not to processes: two caches in one process exclude each other as two processes do.
    begun, may_end = threading.Event(), threading.Event()
    fills: list[int] = []

    def fill(file: BinaryIO) -> None:
        fills.append(1)
        begun.set()
        assert may_end.wait(10)
        file.write(b"data")

    def look() -> None:
        if begun.is_set():
            may_end.set()  # a second one has come and waits

    artifact = artifact_of(b"data")
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(LocalCache(tmp_path).obtain, artifact, fill, lambda: None)
        assert begun.wait(10)
        others = [threads.submit(LocalCache(tmp_path).obtain, artifact, fill, look) for _ in range(3)]
        files = [first.result(10), *(other.result(10) for other in others)]
    assert fills == [1]
    assert {file.path.read_bytes() for file in files} == {b"data"}
    assert [path.name for path in tmp_path.iterdir()] == [f"{artifact.checksum}.bin"]
    for file in files:
        file.release()


def test_the_copies_used_longest_ago_go_first(tmp_path: Path) -> None:
    cache = LocalCache(tmp_path, budget_bytes=250)
    for text in (b"a", b"b"):
        obtained(cache, text * 100).release()
    obtained(cache, b"a" * 100).release()
    obtained(cache, b"c" * 100).release()
    assert sorted(path.read_bytes()[:1] for path in tmp_path.iterdir()) == [b"a", b"c"]


def test_a_copy_in_use_is_never_evicted(tmp_path: Path) -> None:
    held = obtained(LocalCache(tmp_path, budget_bytes=150), b"a" * 100)
    obtained(LocalCache(tmp_path, budget_bytes=150), b"b" * 100).release()
    assert held.path.read_bytes() == b"a" * 100
    held.release()
    obtained(LocalCache(tmp_path, budget_bytes=150), b"c" * 100).release()
    assert [path.read_bytes()[:1] for path in tmp_path.iterdir()] == [b"c"]


def test_what_a_killed_download_left_is_used_again(tmp_path: Path) -> None:
    artifact = artifact_of(b"data")
    (tmp_path / f"{artifact.checksum}.bin.part").write_bytes(b"half of something longer")

    def fill(file: BinaryIO) -> None:
        file.truncate(0)
        file.write(b"data")

    file = LocalCache(tmp_path).obtain(artifact, fill, lambda: None)
    assert file.path.read_bytes() == b"data"
    assert len(list(tmp_path.iterdir())) == 1
    file.release()


def test_a_failed_download_leaves_nothing(tmp_path: Path) -> None:
    def fail(file: BinaryIO) -> None:
        raise ZeroDivisionError

    for artifact in (artifact_of(b"data"), Artifact("a/x")):
        with pytest.raises(ZeroDivisionError):
            LocalCache(tmp_path).obtain(artifact, fail, lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_a_shared_copy_that_changed_its_length_is_fetched_anew(tmp_path: Path) -> None:
    file = obtained(LocalCache(tmp_path), b"data")
    file.release()
    file.path.chmod(0o600)
    file.path.write_bytes(b"da")
    again = obtained(LocalCache(tmp_path), b"data")
    assert again.path.read_bytes() == b"data"
    again.release()


def test_the_directory_is_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    file = obtained(LocalCache(tmp_path), b"data")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o400
    file.release()


def test_a_planted_link_is_no_cache_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InvalidValue, match="artifact cache"):
        obtained(LocalCache(tmp_path / "link"), b"data")


def test_without_a_home_the_cache_goes_to_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = obtained(LocalCache(), b"data")
    assert file.path.is_relative_to(tmp_path)
    file.release()


class EndlessSource:
    """A storage whose object never ends."""

    def __init__(self, cache: LocalCache) -> None:
        self.cache = cache
        self.is_streaming = threading.Event()
        self.has_ended = threading.Event()

    def stream(self, artifact: Artifact) -> Iterator[bytes]:
        """Chunks until the reader stops."""
        try:
            while True:
                yield b"x"
                self.is_streaming.set()
        finally:
            self.has_ended.set()

    async def in_thread_until_cancelled(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """As `Storage` does it."""
        return await anyio.to_thread.run_sync(lambda: function(*args, **kwargs), abandon_on_cancel=True)


@pytest.mark.anyio
async def test_a_cancelled_download_stops(tmp_path: Path) -> None:
    source = EndlessSource(LocalCache(tmp_path))
    async with anyio.create_task_group() as group:
        group.start_soon(LocalFile(source, Artifact("a/x")).__aenter__)
        await anyio.to_thread.run_sync(source.is_streaming.wait, 10)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(source.has_ended.wait, 10)
