"""What every storage promises, on a directory and on a real S3 server alike."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
import urllib.request
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from flowq.artifacts import Storage
from flowq.artifacts.upload import PART_BYTES
from flowq.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactMisused,
    ArtifactNameInvalid,
    ArtifactNameTaken,
    ArtifactNotWritten,
    InvalidValue,
    StorageError,
)
from flowq.model.artifact import Artifact, bound_reader
from tests.artifacts.folders import FOLDER

MIB = 1024 * 1024


def keys(storage: Storage) -> list[str]:
    return [found.key for found in storage.objects()]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 20 * MIB + 1], ids=["0 B", "1 B", "one part", "20 MiB"])
def test_bytes_come_back_as_they_were_written(storage: Storage, size: int) -> None:
    data = os.urandom(size)
    with storage.new(FOLDER, "video.mp4") as sink:
        for begin in range(0, size, 3_000_001):
            assert sink.write(data[begin : begin + 3_000_001]) == len(data[begin : begin + 3_000_001])
        assert sink.size == size
    artifact = sink.artifact
    assert (artifact.size, artifact.content_type, artifact.name) == (size, "video/mp4", "video.mp4")
    assert artifact.checksum == hashlib.sha256(data).hexdigest()
    assert storage.get_bytes(artifact) == data
    with storage.local(artifact) as path:
        assert path.read_bytes() == data
    with storage.open(artifact) as stream:
        assert stream.read() == data
    assert storage.stat(artifact).size == size


def test_memory_does_not_grow_with_the_object(storage: Storage) -> None:
    chunk = os.urandom(MIB)
    storage.put_bytes(FOLDER, "warm-up.bin", chunk)
    tracemalloc.start()
    try:
        with storage.new(FOLDER, "large.bin") as sink:
            for _ in range(48):
                sink.write(chunk)
        with storage.local(sink.artifact) as path:
            assert path.stat().st_size == 48 * MIB
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * PART_BYTES


@pytest.mark.anyio
async def test_the_async_sink_writes_the_same(storage: Storage) -> None:
    async with storage.new(FOLDER, "a.bin") as sink:
        for _ in range(9):
            await sink.write(b"x" * MIB)
        assert sink.size == 9 * MIB
    assert storage.get_bytes(sink.artifact) == b"x" * 9 * MIB
    async with storage.local(sink.artifact) as path:
        assert path.stat().st_size == 9 * MIB


@pytest.mark.parametrize("written", [100, PART_BYTES + 100])
def test_a_block_that_fails_leaves_nothing_visible(storage: Storage, written: int) -> None:
    new = storage.new(FOLDER, "half.bin")

    def write_half() -> None:
        with new as sink:
            sink.write(b"x" * written)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert new.written is None
    assert keys(storage) == []
    assert list(storage.pending_uploads()) == []


@pytest.mark.anyio
async def test_a_cancelled_async_block_leaves_nothing_visible(storage: Storage) -> None:
    with anyio.CancelScope() as scope:
        async with storage.new(FOLDER, "half.bin") as sink:
            await sink.write(b"x" * (PART_BYTES + 1))
            scope.cancel()
            await sink.write(b"x" * PART_BYTES)
    assert keys(storage) == []
    assert list(storage.pending_uploads()) == []


@pytest.mark.anyio
async def test_a_part_lost_to_a_swallowed_cancellation_is_not_papered_over(storage: Storage) -> None:
    async def write_with_a_hole() -> None:
        async with storage.new(FOLDER, "hole.bin") as sink:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await sink.write(b"x" * PART_BYTES)
            await sink.write(b"y" * 10)

    with pytest.raises(ArtifactMisused, match="an earlier write failed"):
        await write_with_a_hole()
    assert keys(storage) == []


def test_an_unfinished_upload_is_invisible_and_can_be_ended(storage: Storage) -> None:
    key = f"{storage.prefix}/{FOLDER}/dead.bin".lstrip("/")
    storage.begin(key, "video/mp4").send(b"x" * PART_BYTES)
    assert keys(storage) == []
    (upload,) = storage.pending_uploads()
    assert upload.key == key
    storage.abort_upload(upload)
    assert list(storage.pending_uploads()) == []


def test_a_program_can_write_the_file_at_path(storage: Storage) -> None:
    with storage.new(FOLDER, "captions.vtt") as sink:
        assert sink.path.name == "captions.vtt"
        assert sink.size == 0
        sink.path.write_bytes(b"WEBVTT" * 2 * MIB)
        assert sink.size == 12 * MIB
        scratch = sink.path.parent
    assert storage.get_bytes(sink.artifact) == b"WEBVTT" * 2 * MIB
    assert sink.size == 12 * MIB
    assert sink.artifact.content_type == "text/vtt"
    assert not scratch.exists()


PLANTED: dict[str, Callable[[Path], None]] = {
    "does not exist": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "a symbolic link": lambda path: path.symlink_to("/etc/passwd"),
    "a FIFO": lambda path: os.mkfifo(path),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_no_file_at_path_is_refused_by_name(directory_storage: Storage, kind: str) -> None:
    sink = directory_storage.new(FOLDER, "x.bin").__enter__()
    scratch = sink.path.parent
    PLANTED[kind](sink.path)
    with pytest.raises(ArtifactNotWritten, match=kind):
        sink.close(successful=True)
    assert keys(directory_storage) == []
    assert not scratch.exists()


def test_write_and_path_exclude_each_other(directory_storage: Storage) -> None:
    with directory_storage.new(FOLDER, "written") as sink:
        sink.write(b"1")
        with pytest.raises(ArtifactMisused, match="both"):
            _ = sink.path
    with directory_storage.new(FOLDER, "made") as sink:
        sink.path.write_bytes(b"1")
        with pytest.raises(ArtifactMisused, match="both"):
            sink.write(b"1")
    assert len(keys(directory_storage)) == 2


def test_a_sink_is_refused_before_and_after_its_time(directory_storage: Storage) -> None:
    new = directory_storage.new(FOLDER, "x")
    with new as sink, pytest.raises(ArtifactMisused, match="not stored yet"):
        _ = sink.artifact
    assert new.written == sink.artifact
    with pytest.raises(ArtifactMisused, match="its block has ended"):
        sink.write(b"1")
    with pytest.raises(ArtifactMisused, match="written twice"), new:
        pass


@pytest.mark.parametrize("size", [3, PART_BYTES + 3])
def test_a_name_is_written_once(storage: Storage, size: int) -> None:
    first = storage.put_bytes(FOLDER, "result", b"a" * size)
    with pytest.raises(ArtifactNameTaken, match="result"):
        storage.put_bytes(FOLDER, "result", b"b" * size)
    assert storage.get_bytes(first) == b"a" * size
    assert list(storage.pending_uploads()) == []


def test_the_same_small_bytes_under_one_name_are_one_artifact(storage: Storage) -> None:
    assert storage.put_bytes(FOLDER, "result", b"same") == storage.put_bytes(FOLDER, "result", b"same")


def test_ranges_are_read_on_demand(storage: Storage) -> None:
    data = os.urandom(3 * MIB)
    artifact = storage.put_bytes(FOLDER, "media.bin", data)
    with storage.open(artifact) as stream:
        assert stream.seekable()
        assert stream.seek(-5, io.SEEK_END) == len(data) - 5
        assert stream.read(100) == data[-5:]
        assert stream.read(1) == b""
        stream.seek(MIB)
        assert stream.read(300_000) == data[MIB : MIB + 300_000]
        assert stream.read(700_000) == data[MIB + 300_000 : MIB + 1_000_000]
        assert stream.tell() == MIB + 1_000_000
        stream.seek(len(data) + 10)
        assert stream.read() == b""


def test_a_missing_object_is_named(storage: Storage) -> None:
    storage.put_bytes(FOLDER, "there", b"1")
    missing = Artifact(f"{storage.prefix}/{FOLDER}/gone.bin".lstrip("/"), 3, checksum="0" * 64)
    for read in (storage.get_bytes, storage.open, storage.stat, lambda artifact: storage.local(artifact).__enter__()):
        with pytest.raises(ArtifactMissing, match=r"gone\.bin"):
            read(missing)


def test_bytes_that_are_not_those_written_are_refused(storage: Storage) -> None:
    real = storage.put_bytes(FOLDER, "x.bin", b"hello")
    wrong_checksum = Artifact(real.key, 5, checksum="0" * 64)
    for read in (storage.get_bytes, lambda artifact: storage.local(artifact).__enter__()):
        with pytest.raises(ArtifactCorrupt, match="SHA-256"):
            read(wrong_checksum)
    for size, flaw in ((4, "more than the 4 bytes"), (6, "5 bytes of the 6")):
        with pytest.raises(ArtifactCorrupt, match=flaw):
            storage.get_bytes(Artifact(real.key, size, checksum=real.checksum))
        with pytest.raises(ArtifactCorrupt):
            storage.open(Artifact(real.key, size))


def test_an_existing_object_is_read_without_size_and_checksum(storage: Storage) -> None:
    key = storage.put_bytes("imports/1", "talk.mp3", b"sound").key
    existing = Artifact.existing(key)
    assert storage.get_bytes(existing) == b"sound"
    assert storage.stat(existing).size == 5
    with storage.local(existing) as path:
        assert (path.read_bytes(), path.suffix) == (b"sound", ".mp3")
    assert not path.exists()


HOSTILE_KEYS = [
    "", "/etc/passwd", "../x", "a/../../x", "a/..", "./x", "a//b", "a/", "a\\..\\b", "a\x00b", "a\nb", "k" * 1025, "\ud800",
    "a\u202eb", "s3://", "s3://bucket", "s3:///key", "s3://a b/key", "s3://arn:aws:s3:x/key", "s3://bucket/../x",
]  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
def test_a_hostile_key_is_refused_by_every_read(storage: Storage, key: str) -> None:
    for read in (storage.get_bytes, storage.open, storage.stat, storage.local, storage.url):
        with pytest.raises(ArtifactNameInvalid):
            read(Artifact(key))


def test_a_hostile_checksum_or_size_is_refused(storage: Storage) -> None:
    for artifact in (Artifact("a/b", 1, checksum="../../etc/passwd"), Artifact("a/b", -7), Artifact("a/b", 1, checksum="A" * 64)):
        with pytest.raises(ArtifactCorrupt):
            storage.local(artifact)


HOSTILE_NAMES = ["", ".", "..", "a/b", "a\\b", ".hidden", "-rf", "a b", "ü.mp4", "x" * 201, "a\n", "a\x00", None, 3]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_before_anything_is_written(storage: Storage, name: object) -> None:
    with pytest.raises(ArtifactNameInvalid):
        storage.new(FOLDER, name)  # type: ignore[arg-type]
    with pytest.raises(ArtifactNameInvalid):
        storage.new(f"../{FOLDER}", "x")
    with pytest.raises(InvalidValue):
        storage.new(FOLDER, "x", content_type="text/html\r\nX-Evil: 1")


def test_a_presigned_url_can_be_read_by_anybody(storage: Storage) -> None:
    artifact = storage.put_bytes(FOLDER, "x.txt", b"hello")
    with urllib.request.urlopen(storage.url(artifact, "5m"), timeout=10) as answer:
        assert answer.read() == b"hello"
    for expires in ("8d", 0, -1, "junk"):
        with pytest.raises(InvalidValue, match="expires"):
            storage.url(artifact, expires)


def test_objects_are_listed_by_folder_and_deleted_by_key(storage: Storage) -> None:
    artifacts = [storage.put_bytes(f"flow-{number}/s/t", "x", b"1") for number in range(3)]
    assert sorted(keys(storage)) == [artifact.key for artifact in artifacts]
    assert [found.key for found in storage.objects("flow-1/")] == [artifacts[1].key]
    storage.delete([artifacts[0].key, artifacts[0].key + "-gone"])
    assert sorted(keys(storage)) == [artifact.key for artifact in artifacts[1:]]
    with pytest.raises((ArtifactNameInvalid, StorageError)):
        storage.delete(["../x"])


@pytest.mark.anyio
async def test_uploads_take_paths_streams_and_iterables(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "My talk (1).mp4"
    file.write_bytes(b"film")

    async def chunks():
        yield b"fi"
        yield b"lm"

    with file.open("rb") as stream:
        sources = [file, str(file), stream, io.BytesIO(b"film"), b"film", [b"fi", b"lm"], chunks()]
        artifacts = [await storage.upload(f"uploads/{number}", source) for number, source in enumerate(sources)]
    assert [artifact.name for artifact in artifacts] == ["My-talk-(1).mp4"] * 3 + ["upload"] * 4
    assert {artifact.content_type for artifact in artifacts[:3]} == {"video/mp4"}
    assert {storage.get_bytes(artifact) for artifact in artifacts} == {b"film"}
    assert (await storage.upload("uploads/9", file, "talk.mp4")).name == "talk.mp4"
    with pytest.raises(ArtifactNotWritten, match="does not exist"):
        await storage.upload("uploads/10", tmp_path / "missing")
    with pytest.raises(ArtifactNotWritten, match="a directory"):
        await storage.upload("uploads/11", tmp_path)
    with pytest.raises(InvalidValue):
        await storage.upload("uploads/12", 42)  # type: ignore[arg-type]


def test_an_artifact_reads_through_the_bound_storage(storage: Storage) -> None:
    artifact = storage.put_bytes(FOLDER, "x.txt", b"hello")
    token = bound_reader.set(storage)
    try:
        with artifact.local() as path, artifact.open() as stream:
            assert path.read_bytes() == stream.read() == b"hello"
        assert "x.txt" in artifact.url()
    finally:
        bound_reader.reset(token)


def test_check_passes_and_leaves_nothing(storage: Storage) -> None:
    storage.check()
    assert keys(storage) == []


def test_a_closed_storage_says_so(storage: Storage) -> None:
    artifact = storage.put_bytes(FOLDER, "x", b"1")
    storage.close()
    storage.close()
    uses = (lambda: storage.new(FOLDER, "y"), lambda: storage.get_bytes(artifact), storage.check, lambda: keys(storage))
    for use in uses:
        with pytest.raises(StorageError, match="closed"):
            use()


def test_long_flow_ids_are_stored_like_short_ones(storage: Storage) -> None:
    from flowq.artifacts import parse, stage_folder

    flow_id = "a" + "/" * 240
    artifact = storage.put_bytes(stage_folder(flow_id, "encode", "1-a"), "x", b"1")
    assert storage.get_bytes(artifact) == b"1"
    assert keys(storage) == [artifact.key]
    folder = parse(artifact.key, storage.prefix)
    assert folder is not None
    assert folder.flow_id == flow_id
    storage.delete([artifact.key])
    assert keys(storage) == []
