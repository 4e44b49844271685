"""What a client works on: opened whole or not at all, and kept although the servers of a data directory are killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from flowq import Artifact, FlowProducer, context, stage
from flowq.engine.backend import Backend
from flowq.errors import DurabilityUnavailable, InvalidValue, SchemaNewer, ServerNotConfigured, StorageNotConfigured
from flowq.settings import Settings
from tests.embedded.conftest import stop_keeper
from tests.engine.waiting import PATIENCE_SECONDS, closed_connections_of, eventually, in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory() -> Iterator[Path]:
    """The path of a data directory; short, because sockets have to fit below it. Its keeper is stopped at the end."""
    home = Path(tempfile.mkdtemp(prefix="fqb-", dir="/tmp"))
    yield home / ".flowq"
    stop_keeper(home / ".flowq")
    shutil.rmtree(home, ignore_errors=True)


def keeper_of(producer: FlowProducer) -> int:
    """The process that keeps its servers."""
    attachment = producer._open._attachment
    assert attachment is not None
    return attachment.keeper_pid


async def test_a_producer_and_a_worker_go_on_when_the_keeper_of_their_server_was_killed(
    anyio_backend: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWQ_S3_BIN", "none")

    @stage
    async def keep(text: str) -> Artifact:
        async with context().new_artifact("a.txt") as sink:
            await sink.write(text.encode())
        return sink.artifact

    async with FlowProducer(f"embedded:{directory}") as producer, working(producer, keep, artifacts=None):
        assert await (await producer.add(keep.flow("before"))).result(PATIENCE_SECONDS)
        killed = keeper_of(producer)
        os.kill(killed, signal.SIGKILL)
        artifact = await (await producer.add(keep.flow("after"))).result(PATIENCE_SECONDS)
        with artifact.open() as stream:
            assert stream.read() == b"after"

        async def is_attached_again() -> bool:
            return keeper_of(producer) != killed

        await in_the_end(is_attached_again)  # the worker may have been the first


async def test_artifacts_are_kept_on_when_their_server_comes_back_at_another_port(anyio_backend: str, directory: Path) -> None:
    @stage
    async def keep(text: str) -> Artifact:
        async with context().new_artifact("a.txt") as sink:
            await sink.write(text.encode())
        return sink.artifact

    async with FlowProducer(f"embedded:{directory}") as producer, working(producer, keep, artifacts=None) as worker:
        await (await producer.add(keep.flow("before"))).result(PATIENCE_SECONDS)
        assert producer.storage.location.startswith("s3:")
        access = producer._open.access
        assert access is not None
        port = urlsplit(access.endpoint_url).port or 0
        # In one go, before anybody in this loop attaches again: somebody else takes the port.
        os.kill(keeper_of(producer), signal.SIGKILL)
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        eventually(lambda: _bound(taken, port))
        taken.listen()
        with taken:

            async def has_moved() -> bool:
                assert worker._backend is not None
                return access not in (producer._open.access, worker._backend.access)

            await in_the_end(has_moved)
            artifact = await (await producer.add(keep.flow("after"))).result(PATIENCE_SECONDS)
            with artifact.open() as stream:
                assert stream.read() == b"after"


def _bound(taken: socket.socket, port: int) -> bool:
    try:
        taken.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


async def test_who_only_reads_flows_does_not_wait_for_the_s3_server(
    anyio_backend: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = directory.parent / "weed"
    program.write_text("#!/bin/sh\nexec sleep 600\n")  # it runs and never answers
    program.chmod(0o755)
    monkeypatch.setenv("FLOWQ_S3_BIN", str(program))
    async with FlowProducer(f"embedded:{directory}") as producer:
        assert await producer.list() == []
        assert await (await producer.add(stage(_one).flow())).cancel()
        assert not (directory / "s3").exists(), "nobody has asked for it yet"
    async with FlowProducer(f"embedded:{directory}", artifacts=f"file:{directory.parent}/kept") as producer:
        assert (await producer.upload(b"1", "a.txt")).size == 1, "kept elsewhere"
        assert not (directory / "s3").exists()


async def test_who_needs_the_s3_server_later_has_it_then(anyio_backend: str, directory: Path) -> None:
    async with FlowProducer(f"embedded:{directory}") as producer:
        assert not (directory / "s3").exists()
        keeper = keeper_of(producer)
        uploaded = await asyncio.gather(*(producer.upload(b"1", f"{number}.txt") for number in range(5)))
        assert producer.storage.location == f"s3://flowq/{producer._open.settings.namespace}"
        assert keeper_of(producer) == keeper
        assert [await asyncio.to_thread(producer.storage.get_bytes, artifact) for artifact in uploaded] == [b"1"] * 5
        os.kill(keeper, signal.SIGKILL)

        async def is_attached_again() -> bool:
            return keeper_of(producer) != keeper

        await in_the_end(is_attached_again)
        assert await asyncio.to_thread(producer.storage.get_bytes, uploaded[0]) == b"1"


async def _one() -> int:
    return 1


async def test_no_server_at_all_is_said_with_the_ways_to_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServerNotConfigured, match="flowq dev"):
        await Backend.open(Settings(), name="tested")


@pytest.mark.parametrize("url", ["embedded://host/x", "embedded:/x?db=1"])
async def test_an_embedded_url_with_more_than_a_path_is_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="embedded"):
        await Backend.open(Settings(url=url), name="tested")


async def test_a_backend_that_is_refused_leaves_no_connection_open(producer: FlowProducer) -> None:
    store = producer._open.store
    await store.connection.command("HSET", store.keys.meta, "schema", 99)
    settings = Settings(url=producer._settings.url, namespace=store.keys.namespace)
    with pytest.raises(SchemaNewer):
        await Backend.open(settings, name="flowq:refused")
    await closed_connections_of("flowq:refused", store.connection.command)


async def test_without_storage_what_needs_it_says_so(valkey_url: str, namespace: str) -> None:
    async with FlowProducer(valkey_url, namespace=namespace, artifacts="") as producer:
        assert producer._open.storage is None
        with pytest.raises(StorageNotConfigured):
            producer.storage  # noqa: B018


async def test_a_server_that_keeps_nothing_refuses_to_promise_it(producer: FlowProducer) -> None:
    with pytest.raises(DurabilityUnavailable, match="appendonly no"):
        producer._open.refuse_without_fsync()
