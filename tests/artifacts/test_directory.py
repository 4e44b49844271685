"""What only directories can suffer: links, permissions, folders that come and go."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowq.artifacts import LocalCache, open_storage
from flowq.artifacts.storage import Storage
from flowq.errors import ArtifactCorrupt, ArtifactMissing, ArtifactNameInvalid, StorageError, StorageForbids
from flowq.model.artifact import Artifact


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where `directory_storage` keeps its files."""
    return tmp_path / "artifacts"


def test_a_planted_link_is_never_followed_to_read(directory_storage: Storage, root: Path) -> None:
    root.mkdir()
    (root / "file").symlink_to("/etc/passwd")
    (root / "folder").symlink_to("/etc")
    with pytest.raises(ArtifactCorrupt, match="symbolic link"):
        directory_storage.get_bytes(Artifact("file"))
    with pytest.raises(StorageError):
        directory_storage.get_bytes(Artifact("folder/passwd"))
    assert list(directory_storage.objects()) == []


def test_a_planted_link_is_never_followed_to_write(directory_storage: Storage, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root.mkdir()
    (root / "folder").symlink_to(outside)
    with pytest.raises(StorageForbids):
        directory_storage.put_bytes("folder", "x", b"1")
    (root / "real").mkdir()
    (root / "real" / "x").symlink_to(outside / "target")
    with pytest.raises(StorageError):
        directory_storage.put_bytes("real", "x", b"1")
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("plant", [Path.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_what_is_no_file_is_not_read(directory_storage: Storage, root: Path, plant: object) -> None:
    root.mkdir()
    plant(root / "x")  # type: ignore[operator]
    with pytest.raises(ArtifactCorrupt, match="no regular file"):
        directory_storage.get_bytes(Artifact("x"))


def test_files_are_for_this_user_alone(directory_storage: Storage, root: Path) -> None:
    key = directory_storage.put_bytes("a/b/c", "x", b"1").key
    assert stat.S_IMODE((root / key).stat().st_mode) == 0o600


def test_objects_of_s3_are_not_in_a_directory(directory_storage: Storage) -> None:
    with pytest.raises(ArtifactNameInvalid, match="not in S3"):
        directory_storage.get_bytes(Artifact("s3://media/x"))


def test_a_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    storage = open_storage(f"file:{tmp_path / 'file'}", cache=LocalCache(tmp_path / "cache"))
    with pytest.raises(StorageError, match="artifact storage"):
        storage.check()
    with pytest.raises(ArtifactMissing):
        storage.get_bytes(Artifact("x"))


def test_a_directory_that_can_not_be_made_is_told_with_what_to_do() -> None:
    with pytest.raises(StorageError, match="name a directory that can be made there"):
        open_storage("file:/proc/nope").check()


def test_writers_survive_the_deletion_of_their_empty_folders(directory_storage: Storage) -> None:
    def write_and_delete(number: int) -> None:
        for turn in range(40):
            artifact = directory_storage.put_bytes("a/b/c", f"x{number}-{turn}", b"1")
            directory_storage.delete([artifact.key])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write_and_delete, range(4)))
    assert list(directory_storage.objects()) == []


def test_the_last_file_takes_its_folders_with_it(directory_storage: Storage, root: Path) -> None:
    directory_storage.delete([directory_storage.put_bytes("a/b/c", "x", b"1").key])
    assert list(root.iterdir()) == []
