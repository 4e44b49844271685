"""The embedded S3 server: SeaweedFS in its single-process form, on loopback, with keys of its own.

Measured on two cores: ready in 1.4 s (0.7 s with data from before), 110 MB resident when idle and ~140 MB after 200 MB of traffic
(390 MB without the two Go settings below), ends in 1.4 s. Nothing is preallocated: an empty bucket takes 300 kB of disk.

Its internal HTTP doors are shut or want a token, so other users of the machine can't read artifacts without the keys;
its internal RPC ports, on loopback too, have no such guard.
"""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flowq.embedded.directory import write_private
from flowq.embedded.messages import Refused
from flowq.embedded.process import ServerProcess
from flowq.embedded.s3_probe import bucket_keeps
from flowq.settings import S3Access

BUCKET = "flowq"
_PARTS = ("master", "volume", "filer", "s3", "admin")
# Below the range from which the kernel takes ports for outgoing connections (32,768 on Linux), so that only servers compete.
_PORT_MIN, _PORT_MAX = 10_000, 22_000
_RPC_OFFSET = 10_000  # the server's parts expect each other's RPC port at this distance
_GO_SETTINGS = {"GOGC": "50", "GOMEMLIMIT": "128MiB"}


class _Identity(msgspec.Struct):
    """What is made once and kept in `access.json`, readable by its owner only."""

    access_key: str
    secret_key: str
    token_key: str
    ports: dict[str, int]


class SeaweedServer:
    """What the keeper has to know of the S3 server.

    Args:
        program: the `weed` program.
        home: the directory of its data and keys; made here.
        runtime: the private directory of sockets.
        log: where its output goes.
        lock_fd: the data directory's lock.
    """

    name = "S3 server"
    start_seconds_max = 20.0
    tries = 3  # another process may take a port between our look and its start

    def __init__(self, program: Path, home: Path, runtime: Path, log: Path, lock_fd: int) -> None:
        self._program = program
        self._home = home
        self._runtime = runtime
        self._log = log
        self._lock_fd = lock_fd
        self._identity = _Identity("", "", "", {})

    @property
    def access(self) -> S3Access:
        """How clients reach it; its port is the same after a restart if it is still free."""
        identity = self._identity
        endpoint = f"http://127.0.0.1:{identity.ports['s3']}"
        return S3Access(endpoint_url=endpoint, access_key=identity.access_key, secret_key=identity.secret_key, region="us-east-1")

    def launch(self) -> ServerProcess:
        """Chooses ports and starts the server; raises OSError."""
        self.clean()
        self._home.mkdir(mode=0o700, exist_ok=True)
        (self._home / "data").mkdir(mode=0o700, exist_ok=True)
        self._identity = identity = self._load_identity()
        write_private(self._home / "access.json", msgspec.json.encode(identity))
        write_private(self._home / "security.toml", _security(identity.token_key))
        environment = {
            "HOME": str(self._home),
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            **_GO_SETTINGS,
        }
        return ServerProcess(self._argv(identity.ports), self._home, self._log, environment, self._lock_fd)

    def answers(self) -> bool:
        """Whether it knows its keys, has made the bucket and keeps what is put there."""
        return bucket_keeps(self.access, BUCKET, timeout_seconds=0.5)

    def diagnosis(self, log_tail: str) -> Refused:
        """What clients are told of a failed start."""
        remedy = f"see {self._log}; or keep artifacts elsewhere: FLOWQ_ARTIFACTS=s3://bucket/prefix or file:/a/directory"
        if "no space left" in log_tail.lower():
            remedy = f"free space on the file system of {self._home}"
        return Refused("failed", self.name, "\n".join(log_tail.splitlines()[-5:]), remedy)

    def clean(self) -> None:
        """Removes the sockets that the server leaves in /tmp when it is killed."""
        for part, port in self._identity.ports.items():
            for name in (f"seaweedfs-{part}-grpc-{port + _RPC_OFFSET}.sock", f"seaweedfs-{part}-{port}.sock"):
                with contextlib.suppress(OSError):
                    Path("/tmp", name).unlink(missing_ok=True)

    def _load_identity(self) -> _Identity:
        try:
            found = msgspec.json.decode((self._home / "access.json").read_bytes(), type=_Identity)
        except (OSError, msgspec.DecodeError):
            found = _Identity(secrets.token_hex(10), secrets.token_hex(20), secrets.token_hex(16), {})
        if set(found.ports) != set(_PARTS) or not all(_is_free_pair(port) for port in found.ports.values()):
            found.ports = _choose_ports()
        return found

    def _argv(self, ports: Mapping[str, int]) -> list[str]:
        return [
            str(self._program),
            "mini",
            "-dir=data",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-bucket={BUCKET}",
            "-disableHttp",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",
            f"-filer.localSocket={self._runtime}/filer.sock",
            f"-s3.localSocket={self._runtime}/s3.sock",
            *(f"-{part}.port={port}" for part, port in ports.items()),
            *(f"-{part}.port.grpc={port + _RPC_OFFSET}" for part, port in ports.items()),
        ]


def _security(token_key: str) -> bytes:
    tables = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
    return "".join(f'[{table}]\nkey = "{token_key}"\n' for table in tables).encode()


def _choose_ports() -> dict[str, int]:
    free = (port for port in iter(lambda: random.randrange(_PORT_MIN, _PORT_MAX), None) if _is_free_pair(port))
    ports: set[int] = set()
    while len(ports) < len(_PARTS):
        ports.add(next(free))
    return dict(zip(_PARTS, ports, strict=True))


def _is_free_pair(port: int) -> bool:
    return _is_free(port) and _is_free(port + _RPC_OFFSET)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does it: a port whose last connections are still in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True
