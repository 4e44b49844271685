"""Kills, leftovers and damage: the servers come back with everything they acknowledged, or say what to do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import redis

from flowq.embedded import attach
from flowq.embedded.directory import DataDirectory, Endpoint, write_private
from flowq.embedded.messages import StartOrder
from flowq.errors import DataDirectoryUnusable, EmbeddedServerFailed
from tests.embedded.conftest import LINGER_SECONDS, client_of, endpoint_of, is_alive, is_unlocked, server_pid, stop_keeper
from tests.engine.waiting import eventually


def test_a_killed_valkey_comes_back_under_its_clients_with_every_acknowledged_write(directory: Path) -> None:
    with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as attachment, client_of(attachment.url) as client:
        killed = server_pid(attachment.url)
        acknowledged = 0
        while acknowledged < 500:
            acknowledged = int(client.incr("acknowledged"))  # type: ignore[arg-type]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: server_pid(attachment.url) not in (0, killed))
        assert int(client.get("acknowledged") or 0) == acknowledged  # type: ignore[arg-type]
        assert not attachment.is_lost
        with attach(directory, s3=False) as second:
            assert server_pid(second.url) == server_pid(attachment.url)


def test_a_killed_keeper_takes_its_server_along_and_the_next_client_finds_every_acknowledged_write(directory: Path) -> None:
    with attach(directory, s3=False) as lost, client_of(lost.url) as client:
        client.set("kept", "yes")
        orphan = server_pid(lost.url)
        os.kill(lost.keeper_pid, signal.SIGKILL)
        with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as attachment:
            assert lost.is_lost
            assert not is_alive(orphan)
            assert attachment.url == lost.url
            assert client.get("kept") == "yes"  # the client of the lost attachment, reconnected


def test_an_ephemeral_directory_that_a_killed_keeper_left_is_removed_by_the_next_one(directory: Path) -> None:
    with attach(directory, ephemeral=True, s3=False) as lost:
        data = Path(endpoint_of(directory).ephemeral_data)
        os.kill(lost.keeper_pid, signal.SIGKILL)
    with attach(directory, s3=False):
        assert not data.exists()


def test_the_directory_stays_locked_while_a_server_lives_whose_keeper_is_dead(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the kernel does not end the orphan (macOS), a second server on the same files would lose acknowledged writes.
    monkeypatch.setattr("flowq.embedded.attachment._ORPHAN_SECONDS", 0.1)
    from flowq.embedded.binaries import find_valkey
    from flowq.embedded.valkey import ValkeyServer, process_of

    monkeypatch.setattr("flowq.embedded.process._HAS_PDEATHSIG", False)
    place = DataDirectory.prepare(directory)
    lock_fd = place.try_lock()
    assert lock_fd is not None
    runtime = place.make_runtime()
    endpoint = Endpoint(str(runtime), keeper_pid=_dead_pid())
    valkey = ValkeyServer(find_valkey().path, directory / "valkey", endpoint.valkey_socket, directory / "valkey.log", lock_fd)
    orphan = valkey.launch()
    os.close(lock_fd)
    eventually(lambda: process_of(endpoint.valkey_socket) == orphan.pid)
    with client_of(f"unix://{endpoint.valkey_socket}") as client:
        client.set("kept", "yes")
    assert not is_unlocked(directory)

    place.record(Endpoint(endpoint.runtime, endpoint.keeper_pid, orphan.pid))
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        orphan.wait_or_kill(10)
        assert orphan.ending == "exit code 0"
        assert client.get("kept") == "yes"


def test_leftovers_of_a_crash_are_replaced(directory: Path) -> None:
    place = DataDirectory.prepare(directory)
    runtime = place.make_runtime()
    for name in ("keeper.sock", "valkey.sock"):
        (runtime / name).write_text("no socket")
    place.record(Endpoint(str(runtime), keeper_pid=os.getpid(), valkey_pid=1))  # numbers that others have by now
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        assert client.ping()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"runtime": 1}', b'{"runtime": "/nonexistent", "keeper_pid": 1}', b"\xff"]
)
def test_an_unreadable_record_is_replaced(directory: Path, content: bytes) -> None:
    place = DataDirectory.prepare(directory)
    write_private(place.endpoint_path, content)
    with attach(directory, s3=False) as attachment:
        assert server_pid(attachment.url)


def test_a_keeper_that_does_not_answer_is_named_after_the_wait(directory: Path) -> None:
    with attach(directory, s3=False) as attachment:
        os.kill(attachment.keeper_pid, signal.SIGSTOP)
        with pytest.raises(DataDirectoryUnusable, match=f"process {attachment.keeper_pid}, which does not answer"):
            attach(directory, s3=False, wait_seconds=0.5)
        os.kill(attachment.keeper_pid, signal.SIGCONT)


def test_a_lock_that_a_stranger_holds_is_reported_after_the_wait(directory: Path) -> None:
    lock_fd = DataDirectory.prepare(directory).try_lock()
    assert lock_fd is not None
    with pytest.raises(DataDirectoryUnusable, match="held by another process"):
        attach(directory, s3=False, wait_seconds=0.2)
    os.close(lock_fd)


def test_when_the_data_directory_is_removed_nothing_more_is_acknowledged(directory: Path) -> None:
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        client.set("before", "1")
        shutil.rmtree(directory)
        eventually(lambda: attachment.is_lost)
        with pytest.raises(redis.ConnectionError):
            client.set("after", "1")
        with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as fresh:
            assert server_pid(fresh.url)


def test_when_the_append_only_files_are_removed_nothing_more_is_acknowledged(directory: Path) -> None:
    with attach(directory, s3=False) as attachment:
        shutil.rmtree(directory / "valkey" / "appendonlydir")
        eventually(lambda: attachment.is_lost)
        eventually(lambda: is_unlocked(directory))


def test_a_damaged_append_only_file_names_the_repair_and_the_repair_works(directory: Path) -> None:
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        for number in range(100):
            client.set(f"key:{number}", "value")
    stop_keeper(directory)
    log = directory / "valkey/appendonlydir/appendonly.aof.1.incr.aof"
    content = log.read_bytes()
    log.write_bytes(content[: len(content) // 2] + b"garbage\r\n" + content[len(content) // 2 + 9 :])

    with pytest.raises(EmbeddedServerFailed, match="Valkey server did not start") as failure:
        attach(directory, s3=False)
    eventually(lambda: is_unlocked(directory))
    repair = failure.value.remedy.partition("last whole command: ")[2].partition("; or remove")[0]
    assert "valkey-check-aof --fix" in repair
    subprocess.run(["sh", "-c", repair], input=b"y\n", check=True, capture_output=True)

    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        assert 10 < client.dbsize() < 100  # type: ignore[operator]


def test_a_truncated_append_only_file_is_read_up_to_its_last_whole_command(directory: Path) -> None:
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        client.set("whole", "yes")
        client.set("cut", "yes")
    stop_keeper(directory)
    log = directory / "valkey/appendonlydir/appendonly.aof.1.incr.aof"
    log.write_bytes(log.read_bytes()[:-3])
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        assert client.get("whole") == "yes"
        assert client.get("cut") is None


def test_the_keepers_order_holds_no_secret(directory: Path) -> None:
    assert set(StartOrder.__struct_fields__) == {"directory", "lock_fd", "valkey_program", "is_ephemeral", "linger_seconds"}


def _dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
