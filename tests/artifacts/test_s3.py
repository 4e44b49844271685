"""What only S3 can suffer: broken and lying connections, lost replies, wrong buckets and credentials."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import flowq.artifacts.s3
from flowq.artifacts import LocalCache, Storage, open_storage, s3_upload
from flowq.artifacts.upload import PART_BYTES
from flowq.errors import ArtifactCorrupt, BucketMissing, InvalidValue, StorageError, StorageForbids, StorageUnreachable
from flowq.model.artifact import Artifact
from flowq.settings import S3Access
from tests.artifacts.folders import FOLDER
from tests.artifacts.proxy import SpoilingProxy, spoiling_proxy
from tests.engine.processes import PATIENCE_SECONDS, running_python, said

MIB = 1024 * 1024
LARGE = os.urandom(4 * MIB)


@pytest.fixture
def proxy(s3: tuple[str, S3Access]) -> Iterator[SpoilingProxy]:
    """A proxy before the real server; passes everything on until a test says otherwise."""
    with spoiling_proxy(s3[1].endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def through_proxy(s3: tuple[str, S3Access], proxy: SpoilingProxy, cache: LocalCache) -> Iterator[Storage]:
    """A storage whose traffic goes through `proxy`."""
    location, access = s3
    access = msgspec.structs.replace(access, endpoint_url=proxy.url)
    storage = open_storage(f"{location}/{secrets.token_hex(6)}", access, cache=cache)
    yield storage
    storage.close()


class Once:
    """Spoils the reply to the first request of a kind, after a number of its bytes."""

    def __init__(self, kind: bytes, after: int, *, flip: bool = False, times: int = 1) -> None:
        self.kind = kind
        self.after = after
        self.flip = flip
        self.times_left = times
        self.passed = 0

    def __call__(self, request: bytes, reply: bytes) -> bytes | None:
        if not request.startswith(self.kind) or not self.times_left:
            return reply
        self.passed += len(reply)
        if self.passed <= self.after:
            return reply
        self.times_left -= 1
        self.passed = 0
        return reply[:-1] + bytes([reply[-1] ^ 1]) if self.flip else None


def test_a_download_that_breaks_off_goes_on_where_it_was(through_proxy: Storage, proxy: SpoilingProxy) -> None:
    artifact = through_proxy.put_bytes(FOLDER, "x.bin", LARGE)
    proxy.spoil = broken = Once(b"GET", 2 * MIB)
    with through_proxy.local(artifact) as path:
        assert path.read_bytes() == LARGE
    proxy.spoil = broken_again = Once(b"GET", 1 * MIB)
    with through_proxy.open(artifact) as stream:
        assert stream.read() == LARGE
    assert broken.times_left == broken_again.times_left == 0


def test_a_download_that_never_gets_on_fails_by_name(through_proxy: Storage, proxy: SpoilingProxy) -> None:
    artifact = through_proxy.put_bytes(FOLDER, "x.bin", LARGE)

    def headers_only(request: bytes, reply: bytes) -> bytes | None:
        if not request.startswith(b"GET"):
            return reply
        return reply[: reply.index(b"\r\n\r\n") + 4] if reply.startswith(b"HTTP/") else None

    proxy.spoil = headers_only
    with pytest.raises(StorageUnreachable):
        through_proxy.get_bytes(artifact)


def test_a_flipped_byte_is_fetched_again(through_proxy: Storage, proxy: SpoilingProxy) -> None:
    artifact = through_proxy.put_bytes(FOLDER, "x.bin", LARGE)
    proxy.spoil = Once(b"GET", MIB, flip=True)
    assert through_proxy.get_bytes(artifact) == LARGE
    proxy.spoil = Once(b"GET", MIB, flip=True, times=1_000)
    with pytest.raises(ArtifactCorrupt, match="SHA-256"), through_proxy.local(artifact):
        pass


@pytest.mark.parametrize(("size", "last_request"), [(100, b"PUT"), (PART_BYTES + 1, b"POST")], ids=["put", "multipart"])
def test_a_lost_reply_is_no_second_artifact(through_proxy: Storage, proxy: SpoilingProxy, size: int, last_request: bytes) -> None:
    data = os.urandom(size)
    with through_proxy.new(FOLDER, "x.bin") as sink:
        sink.write(data)
        if size > PART_BYTES:  # the first POST, which begins the upload, is through
            assert len(list(through_proxy.pending_uploads())) == 1
        proxy.spoil = lost = Once(last_request, 0)
    assert lost.times_left == 0
    assert through_proxy.get_bytes(sink.artifact) == data


_UPLOAD = """
import sys
import flowq.artifacts.s3
from flowq.artifacts import open_storage
from flowq.artifacts.upload import PART_BYTES
from flowq.settings import S3Access

flowq.artifacts.s3._CLOSE_SECONDS_MAX = 0.1
storage = open_storage(sys.argv[1], S3Access(*sys.argv[2:], "us-east-1"))
sink = storage.new("folder", "x.bin").__enter__()
sink.write(bytes(PART_BYTES))
print("part under way", flush=True)
sys.stdin.readline()
storage.close()
print("closed", flush=True)
"""


def test_a_part_that_the_server_never_answers_holds_up_neither_the_close_nor_the_process(
    s3: tuple[str, S3Access], proxy: SpoilingProxy
) -> None:
    answered = threading.Event()

    def never_answered(request: bytes, reply: bytes) -> bytes:
        if not request.startswith(b"PUT"):
            return reply
        answered.set()
        return b""

    proxy.spoil = never_answered
    location, access = f"{s3[0]}/{secrets.token_hex(6)}", s3[1]
    with running_python(_UPLOAD, location, proxy.url, access.access_key, access.secret_key) as process:
        assert said(process) == "part under way"
        assert answered.wait(PATIENCE_SECONDS)
        process.communicate("close\n", PATIENCE_SECONDS)
        assert process.returncode == 0


def test_an_upload_given_up_before_a_silent_server_is_left_to_the_sweep(
    through_proxy: Storage, proxy: SpoilingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "_LAST_PART_SECONDS_MAX", 0.1)
    monkeypatch.setattr(flowq.artifacts.s3, "_CLOSE_SECONDS_MAX", 0.1)
    proxy.spoil = lambda request, reply: b"" if request.startswith(b"PUT") else reply

    def given_up() -> None:
        with through_proxy.new(FOLDER, "x.bin") as sink:
            sink.write(bytes(PART_BYTES))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        given_up()
    (pending,) = through_proxy.pending_uploads()
    through_proxy.abort_upload(pending)
    through_proxy.close()


def test_an_object_replaced_while_it_is_read_is_noticed(s3_storage: Storage, s3: tuple[str, S3Access]) -> None:
    import boto3

    artifact = s3_storage.put_bytes(FOLDER, "x.bin", LARGE)
    access = s3[1]
    with s3_storage.open(artifact) as stream:
        assert stream.read(10) == LARGE[:10]
        boto3.client(
            "s3", endpoint_url=access.endpoint_url, region_name=access.region,
            aws_access_key_id=access.access_key, aws_secret_access_key=access.secret_key,
        ).put_object(Bucket=s3[0].removeprefix("s3://"), Key=artifact.key, Body=os.urandom(4 * MIB))  # fmt: skip
        stream.seek(3 * MIB)
        with pytest.raises(ArtifactCorrupt, match="replaced"):
            stream.read(10)


def test_an_object_of_another_bucket_is_read_by_its_url(s3_storage: Storage, s3: tuple[str, S3Access], cache: LocalCache) -> None:
    key = s3_storage.put_bytes(FOLDER, "x.txt", b"hello").key
    elsewhere = open_storage("s3://another", s3[1], cache=cache)
    artifact = Artifact.existing(f"{s3[0]}/{key}")
    assert elsewhere.get_bytes(artifact) == b"hello"
    with elsewhere.local(artifact) as path, elsewhere.open(artifact) as stream:
        assert path.read_bytes() == stream.read() == b"hello"
    elsewhere.close()


def test_a_missing_bucket_is_named(s3: tuple[str, S3Access]) -> None:
    storage = open_storage("s3://no-such-bucket/x", s3[1])
    for use in (storage.check, lambda: storage.stat(Artifact("x")), lambda: storage.get_bytes(Artifact("x"))):
        with pytest.raises(BucketMissing, match="'no-such-bucket'"):
            use()
    storage.close()


@pytest.mark.parametrize("field", ["access_key", "secret_key"])
def test_wrong_credentials_are_named_and_never_shown(
    s3: tuple[str, S3Access], field: str, caplog: pytest.LogCaptureFixture
) -> None:
    canary = "CANARY" + secrets.token_hex(8)
    access = msgspec.structs.replace(s3[1], **{field: canary})
    storage = open_storage(s3[0], access)
    with caplog.at_level(logging.INFO):
        for use in (storage.check, lambda: storage.put_bytes(FOLDER, "x", b"1"), lambda: storage.get_bytes(Artifact("x"))):
            with pytest.raises(StorageForbids, match=r"access key|secret key") as caught:
                use()
            assert caught.value.__suppress_context__
            assert canary not in str(caught.value) + repr(caught.value)
    assert canary not in caplog.text + repr(storage) + repr(access).replace(access.access_key, "")
    storage.close()


def test_no_credentials_are_named(s3: tuple[str, S3Access], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    storage = open_storage(s3[0], S3Access(endpoint_url=s3[1].endpoint_url))
    with pytest.raises(StorageForbids, match="no usable credentials"):
        storage.check()
    storage.close()


def test_an_unreachable_server_is_named(s3: tuple[str, S3Access]) -> None:
    access = msgspec.structs.replace(s3[1], endpoint_url="http://user:CANARY@127.0.0.1:1")
    storage = open_storage(s3[0], access)
    with pytest.raises(StorageUnreachable, match="nothing listens") as caught:
        storage.check()
    assert "CANARY" not in str(caught.value)
    storage.close()


@pytest.mark.parametrize("endpoint", ["junk", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
def test_a_junk_endpoint_is_refused(endpoint: str) -> None:
    storage = open_storage("s3://media", S3Access(endpoint, "a", "b"))
    with pytest.raises((InvalidValue, StorageError)):
        storage.check()
    storage.close()


def test_a_key_cannot_choose_the_server(s3_storage: Storage) -> None:
    for key in ("s3://x@evil/y", "s3://127.0.0.1:80/y", "s3://a?b/c", "http://169.254.169.254/latest"):
        with pytest.raises(StorageError):
            s3_storage.get_bytes(Artifact(key))


def test_objects_are_listed_and_deleted_page_by_page(s3_storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowq.artifacts.s3._PAGE_KEYS", 10)
    monkeypatch.setattr("flowq.artifacts.s3._DELETE_KEYS", 10)
    written = {s3_storage.put_bytes("many/s/t", f"x{number}", b"1").key for number in range(25)}
    assert [found.key for found in s3_storage.objects()] == sorted(written)
    s3_storage.delete(iter(written))
    assert list(s3_storage.objects()) == []
