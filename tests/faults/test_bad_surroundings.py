"""Servers, storages and modules that can't be used: `flowq doctor`, `flowq worker` and `flowq submit` say what and what to do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.faults.plant import ROOT, STAGES, Plant
from tests.servers import running_s3, running_valkey

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]

SECONDS_MAX = 30
Flowq = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flowq(tmp_path: Path) -> Flowq:
    """Runs a command in an empty directory with nothing but what it is given."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "AWS_"))}
        return subprocess.run(
            [sys.executable, "-m", "flowq", *words], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=inherited | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200", **environment},
            timeout=SECONDS_MAX, check=False,
        )  # fmt: skip

    return run


@contextlib.contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A TCP server that answers each received piece with what `answer` makes of it; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while piece := connection.recv(65_536):
                connection.sendall(answer(piece))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def as_an_old_server(product: str, version: str) -> Callable[[bytes], bytes]:
    """Answers INFO as a server of this version would, and everything else with OK."""

    def answer(piece: bytes) -> bytes:
        info = f"# Server\r\n{product}_version:{version}\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n".encode()
        answers = b""
        for command in piece.split(b"*")[1:]:
            answers += b"$%d\r\n%s\r\n" % (len(info), info) if b"\r\nINFO\r\n" in command else b"+OK\r\n"
        return answers

    return answer


def told(url: str, *words: str) -> None:
    """Sends the server one command."""
    with redis.Redis.from_url(url) as client:
        client.execute_command(*words)


def refused(flowq: Flowq, url: str, *said: str, **environment: str) -> None:
    """Doctor finds it, worker and submit refuse to begin: each in few lines, with the cause, and never with a traceback."""
    for words, code in ((["doctor"], 1), (["worker", str(STAGES)], 4), (["submit", f"{STAGES}:three", "-i", "number=1"], 4)):
        ran = flowq(*words, FLOWQ_URL=url, **environment)
        text = ran.stdout + ran.stderr
        assert ran.returncode == code, f"{words}: {ran.returncode}\n{text}"
        assert "Traceback" not in text
        for word in said:
            assert word in " ".join(text.split()), f"{words[0]} does not say {word!r}:\n{text}"


def test_a_server_that_is_not_there(flowq: Flowq) -> None:
    refused(flowq, "redis://127.0.0.1:1", "127.0.0.1:1", "does not answer", "check the host and port")


def test_a_socket_that_is_not_there(flowq: Flowq, tmp_path: Path) -> None:
    refused(flowq, f"unix://{tmp_path}/nothing.sock", "does not answer")


def test_a_wrong_and_a_missing_password(flowq: Flowq) -> None:
    with running_valkey() as url:
        told(url, "CONFIG", "SET", "requirepass", "s3cret")
        socket_path = url.removeprefix("unix://")
        refused(flowq, url, "refused the login")
        refused(flowq, f"unix://:wr0ng@{socket_path}", "refused the login")
        text = flowq("doctor", FLOWQ_URL=f"unix://:wr0ng@{socket_path}")
        assert "wr0ng" not in text.stdout + text.stderr


def test_a_web_server_on_that_port(flowq: Flowq) -> None:
    with answering(lambda _: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as url:
        refused(flowq, url, "no Redis or Valkey")


def test_an_ssh_server_on_that_port(flowq: Flowq) -> None:
    with answering(lambda _: b"SSH-2.0-OpenSSH_9.9\r\n") as url:
        refused(flowq, url, "no Redis or Valkey")


def test_a_port_that_hangs_up(flowq: Flowq) -> None:
    with answering(lambda _: (_ for _ in ()).throw(OSError)) as url:
        refused(flowq, url, "does not answer")


@pytest.mark.parametrize(("product", "version"), [("redis", "6.2.14"), ("valkey", "7.0.1"), ("redis", "5.0.0")])
def test_a_server_that_is_too_old(flowq: Flowq, product: str, version: str) -> None:
    with answering(as_an_old_server(product, version)) as url:
        refused(flowq, url, version, "Redis ≥ 7.0 or Valkey ≥ 7.2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_whose_server_never_answers_ends_when_it_is_told(number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWQ_")}
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        argv = [sys.executable, "-m", "flowq", "worker", str(STAGES), "--url", url]
        worker = subprocess.Popen(argv, env=environment | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE)
        asking, _ = deaf.accept()
        with asking:
            assert asking.recv(1)
            worker.send_signal(number)
            _, said = worker.communicate(timeout=20)
    assert worker.returncode != 0
    assert b"Traceback" not in said


def test_a_server_that_throws_keys_away(flowq: Flowq) -> None:
    with running_valkey({"maxmemory-policy": "allkeys-lru", "maxmemory": "100mb"}) as url:
        refused(flowq, url, "allkeys-lru", "noeviction")


def test_a_server_that_is_a_replica(flowq: Flowq) -> None:
    with running_valkey({"replicaof": "127.0.0.1 1"}) as url:
        refused(flowq, url, "replica", "primary")


def test_a_user_without_rights(flowq: Flowq) -> None:
    with running_valkey() as url:
        told(url, "ACL", "SETUSER", "guest", "on", "nopass", "~*", "&*", "+ping", "+info", "+client", "+hello")
        refused(flowq, f"unix://guest:x@{url.removeprefix('unix://')}", "forbids")


def test_a_full_server_is_said_by_doctor_and_refuses_a_submit(flowq: Flowq) -> None:
    with running_valkey({"maxmemory": "1mb"}) as url:
        ran = flowq("submit", f"{STAGES}:three", "-i", "number=1", FLOWQ_URL=url)
        assert ran.returncode == 4
        assert "out of memory" in ran.stderr
        doctor = flowq("doctor", "-o", "json", FLOWQ_URL=url)
        assert "out of memory" in doctor.stdout
        assert doctor.returncode == 1


def test_a_server_that_filled_up_later_is_said_by_doctor(flowq: Flowq) -> None:
    with running_valkey() as url:
        assert flowq("submit", f"{STAGES}:three", "-i", "number=1", FLOWQ_URL=url).returncode == 0
        told(url, "CONFIG", "SET", "maxmemory", "1mb")
        doctor = flowq("doctor", "-o", "json", FLOWQ_URL=url)
    findings = {finding["name"]: finding for finding in json.loads(doctor.stdout)["data"]}
    assert (findings["memory"]["level"], doctor.returncode) == ("fail", 1)
    assert "maxmemory" in findings["memory"]["remedy"]


def test_keys_of_a_newer_release(flowq: Flowq) -> None:
    with running_valkey() as url:
        with redis.Redis.from_url(url) as client:
            client.hset("{flowq}:meta", mapping={"schema": 99, "partitions": 1, "instance": "x"})
        refused(flowq, url, "schema 99", "upgrade flowq")


# ── storage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused_storage(flowq: Flowq, url: str, *said: str, **environment: str) -> None:
    """Doctor names the storage, and a worker does not begin."""
    for words, code in ((["doctor"], 1), (["worker", str(STAGES)], 4)):
        ran = flowq(*words, FLOWQ_URL=url, AWS_MAX_ATTEMPTS="1", **environment)
        text = ran.stdout + ran.stderr
        assert ran.returncode == code, f"{words}: {ran.returncode}\n{text}"
        assert "Traceback" not in text
        for word in said:
            assert word in " ".join(text.split()), f"{words[0]} does not say {word!r}:\n{text}"


def test_storage_that_can_not_be_reached_read_or_found(flowq: Flowq) -> None:
    with running_valkey() as url, running_s3() as (location, access):
        keys = {"AWS_ACCESS_KEY_ID": access.access_key, "AWS_SECRET_ACCESS_KEY": access.secret_key, "AWS_REGION": "us-east-1"}
        there = {"AWS_ENDPOINT_URL_S3": access.endpoint_url}
        nowhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
        refused_storage(flowq, url, "does not answer", FLOWQ_ARTIFACTS=location, **keys, **nowhere)
        refused_storage(flowq, url, "no bucket 'no-such-bucket'", FLOWQ_ARTIFACTS="s3://no-such-bucket", **keys, **there)
        wrong = keys | {"AWS_SECRET_ACCESS_KEY": "wr0ng-s3cret"}
        refused_storage(flowq, url, "refused the request", FLOWQ_ARTIFACTS=location, **wrong, **there)
        text = flowq("doctor", FLOWQ_URL=url, FLOWQ_ARTIFACTS=location, **wrong, **there)
        assert "wr0ng-s3cret" not in text.stdout + text.stderr


def test_a_directory_that_can_not_be_written(flowq: Flowq, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with running_valkey() as url:
        refused_storage(flowq, url, "file", FLOWQ_ARTIFACTS=f"file:{tmp_path / 'file'}")


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MODULES = {
    "missing import": ("import no_such_package\n", "no_such_package"),
    "syntax error": ("def broken(:\n", "SyntaxError"),
    "own error": ("raise RuntimeError('no licence')\n", "no licence"),
    "sys.exit": ("import sys; sys.exit(3)\n", "sys.exit()"),
    "no stages": ("x = 1\n", "no stages"),
    "two stages of one name": ("from flowq import stage\n@stage\ndef a(): ...\n@stage(name='a')\ndef b(): ...\n", "'a'"),
}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_that_does_not_load_ends_the_worker_with_its_cause(flowq: Flowq, tmp_path: Path, kind: str) -> None:
    source, said = MODULES[kind]
    (tmp_path / "broken.py").write_text(source)
    with running_valkey() as url:
        ran = flowq("worker", "broken.py", FLOWQ_URL=url)
    assert ran.returncode == 2, ran.stderr
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_module_that_is_not_there_ends_the_worker(flowq: Flowq) -> None:
    with running_valkey() as url:
        for module in ("nothing.py", "no.such.module"):
            ran = flowq("worker", module, FLOWQ_URL=url)
            assert (ran.returncode, "Traceback" in ran.stderr) == (2, False), ran.stderr


def test_a_module_that_kills_its_process_is_tried_again_until_the_worker_is_stopped(plant: Plant, tmp_path: Path) -> None:
    (tmp_path / "fatal.py").write_text("import os\nos._exit(9)\n")
    worker = plant.worker(module=tmp_path / "fatal.py")
    plant.until(lambda: plant.logs().count("exit code 9") >= 2)
    worker.terminate()
    assert worker.wait(20) == 0
