"""What the keeper and its clients say to each other over the control socket: one JSON object a line.

client → Hello          keeper → Ready | Refused          then it stays open while the client needs the servers
"""

from __future__ import annotations

import msgspec

from flowq.errors import DataDirectoryUnusable, EmbeddedError, EmbeddedServerFailed
from flowq.settings import S3Access

_ERRORS: dict[str, type[DataDirectoryUnusable | EmbeddedServerFailed]] = {
    "unusable": DataDirectoryUnusable,
    "failed": EmbeddedServerFailed,
}
_encoder = msgspec.json.Encoder()


class StartOrder(msgspec.Struct, frozen=True):
    """The keeper's whole configuration; the process that starts it writes it to its stdin.

    Attributes:
        directory: the data directory.
        lock_fd: the inherited descriptor that holds the directory's lock.
        valkey_program: the server to run.
        is_ephemeral: keep the data in a temporary directory and remove it at the end.
        linger_seconds: how long to stay after the last client has gone.
    """

    directory: str
    lock_fd: int
    valkey_program: str
    is_ephemeral: bool
    linger_seconds: float


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """A client's first words.

    Attributes:
        pid: the client's process, for the keeper's log.
        wants_s3: whether an answer has to wait for the S3 server.
        s3_program: the program to start if no S3 server runs yet; empty: the client found none.
    """

    pid: int
    wants_s3: bool
    s3_program: str = ""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """The servers answer.

    Attributes:
        keeper_pid: the keeper's process.
        valkey_socket: the path of Valkey's socket.
        data: where the data are: the data directory, or a temporary one.
        is_ephemeral: whether the data are removed at the end.
        s3: how to reach the S3 server; None: not asked for, or there is no program for it.
    """

    keeper_pid: int
    valkey_socket: str
    data: str
    is_ephemeral: bool
    s3: S3Access | None = None


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """The servers can't be used: an error of flowq on its way from the keeper to the client.

    Attributes:
        kind: `unusable` (the data directory) or `failed` (a server).
        what: the directory or the server.
        reason: what is wrong with it, such as the last lines of its log.
        remedy: what to do.
    """

    kind: str
    what: str
    reason: str
    remedy: str

    def error(self) -> EmbeddedError:
        """The exception that the client raises."""
        return _ERRORS.get(self.kind, EmbeddedServerFailed)(self.what, self.reason, self.remedy)


def line(message: StartOrder | Hello | Ready | Refused) -> bytes:
    """A message as it is sent."""
    return _encoder.encode(message) + b"\n"
