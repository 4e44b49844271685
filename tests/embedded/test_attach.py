"""Attaching: one server per data directory, for as long as anyone needs it, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from flowq.embedded import attach
from flowq.errors import DataDirectoryUnusable
from tests.embedded.conftest import LINGER_SECONDS, OtherProcess, client_of, endpoint_of, is_alive, is_unlocked, server_pid
from tests.engine.waiting import eventually


def test_what_was_written_is_there_after_the_servers_stopped_and_started_again(directory: Path) -> None:
    with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as first, client_of(first.url) as client:
        client.set("kept", "yes")
    eventually(lambda: is_unlocked(directory))

    with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as second, client_of(second.url) as client:
        assert client.get("kept") == "yes"
        assert second.url == first.url


def test_servers_that_do_not_linger_serve_as_long_as_anyone_needs_them(directory: Path) -> None:
    with attach(directory, s3=False, linger_seconds=0) as first, client_of(first.url) as client:
        assert client.ping()
        other = OtherProcess(directory)
        assert other.server_pid == server_pid(first.url)
        other.end()
        assert client.ping()
        assert not first.is_lost
    eventually(lambda: is_unlocked(directory))


def test_it_syncs_every_write_and_opens_no_tcp_port(directory: Path) -> None:
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client:
        settings = client.config_get("*")
        inodes = _sockets_of(server_pid(attachment.url))
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["port"] == "0"
    tcp = [line.split()[9] for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    assert not inodes & set(tcp)


@pytest.mark.parametrize("command", ["DEBUG SLEEP 0", "MODULE LOAD /tmp/x.so", "CONFIG SET enable-debug-command yes"])
def test_dangerous_commands_are_refused(directory: Path, command: str) -> None:
    with attach(directory, s3=False) as attachment, client_of(attachment.url) as client, pytest.raises(redis.ResponseError):
        client.execute_command(command)


def test_only_the_owner_can_reach_the_data(directory: Path) -> None:
    with attach(directory, s3=False) as attachment:
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert stat.S_IMODE((directory / "run").stat().st_mode) == 0o700
        private = [
            "lock",
            "endpoint.json",
            "keeper.log",
            "valkey.log",
            "valkey/valkey.conf",
            "run/keeper.sock",
            "run/valkey.sock",
        ]
        assert [name for name in private if stat.S_IMODE((directory / name).stat().st_mode) & 0o077] == []
        assert (directory / ".gitignore").read_text() == "*\n"
        assert attachment.artifacts == f"file:{directory}/artifacts"


def test_a_second_process_joins_the_first_ones_server(directory: Path) -> None:
    with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as attachment:
        other = OtherProcess(directory)
        assert other.server_pid == server_pid(attachment.url)
        other.end()


def test_twenty_processes_that_start_at_once_share_one_server(directory: Path) -> None:
    others = [OtherProcess(directory) for _ in range(20)]
    try:
        servers = {other.server_pid for other in others}
    finally:
        for other in others:
            other.end()
    assert len(servers) == 1
    assert servers != {0}


def test_the_servers_stop_when_the_last_client_was_killed(directory: Path) -> None:
    first, second = OtherProcess(directory), OtherProcess(directory)
    server = first.server_pid
    assert second.server_pid == server
    first.end()
    assert is_alive(server)
    second.end()
    eventually(lambda: not is_alive(server))
    eventually(lambda: is_unlocked(directory))
    assert not (directory / "endpoint.json").exists()


def test_ctrl_c_in_the_clients_terminal_does_not_reach_the_servers(directory: Path) -> None:
    starter = OtherProcess(directory, linger_seconds=30)
    server = starter.server_pid
    starter.end(signal.SIGINT)
    assert starter.process.returncode != 0
    with attach(directory, s3=False) as attachment:
        assert server_pid(attachment.url) == server


def test_sigterm_to_the_keeper_stops_the_servers_and_clients_notice(directory: Path) -> None:
    with attach(directory, s3=False) as attachment:
        server = server_pid(attachment.url)
        assert not attachment.is_lost
        os.kill(attachment.keeper_pid, signal.SIGTERM)
        eventually(lambda: attachment.is_lost)
        assert not is_alive(server)


def test_ephemeral_data_are_elsewhere_and_gone_at_the_end(directory: Path) -> None:
    with (
        attach(directory, ephemeral=True, s3=False, linger_seconds=LINGER_SECONDS) as attachment,
        client_of(attachment.url) as client,
    ):
        client.set("kept", "no")
        data = Path(endpoint_of(directory).ephemeral_data)
        assert (data / "valkey").is_dir()
        assert attachment.artifacts == f"file:{data}/artifacts"
        with attach(directory, s3=False) as joined:
            assert joined.is_ephemeral
    eventually(lambda: not directory.exists())
    assert not data.exists()

    with attach(directory, s3=False, linger_seconds=LINGER_SECONDS) as lasting, client_of(lasting.url) as client:
        assert client.get("kept") is None
        client.set("kept", "yes")
    eventually(lambda: is_unlocked(directory))
    with attach(directory, ephemeral=True, s3=False, linger_seconds=LINGER_SECONDS):
        pass
    eventually(lambda: is_unlocked(directory))
    with attach(directory, s3=False) as lasting, client_of(lasting.url) as client:
        assert client.get("kept") == "yes"


def test_who_comes_while_an_ephemeral_keeper_ends_gets_one_of_its_own(directory: Path) -> None:
    for _ in range(3):
        with attach(directory, ephemeral=True, s3=False, linger_seconds=LINGER_SECONDS) as attachment:
            with client_of(attachment.url) as client:
                assert client.ping()
            endpoint = directory / "endpoint.json"
        eventually(lambda endpoint=endpoint: not endpoint.exists())


def test_ephemeral_is_refused_while_lasting_data_are_served(directory: Path) -> None:
    with attach(directory, s3=False), pytest.raises(DataDirectoryUnusable, match="lasting data"):
        attach(directory, ephemeral=True, s3=False)


def _sockets_of(pid: int) -> set[str]:
    """The inodes of a process's open sockets."""
    found: set[str] = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            found.add(os.readlink(descriptor).removeprefix("socket:[")[:-1])
    return found
