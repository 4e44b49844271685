"""What is wrong with the Redis or Valkey server, or with what it keeps."""

from __future__ import annotations

from flowq.errors.root import FlowqError, masked


class ServerError(FlowqError):
    """Redis/Valkey can't be used."""


class ServerNotConfigured(ServerError):
    """No server was named and the project has none of its own."""

    def __init__(self) -> None:
        super().__init__(
            "no server: no URL was given, FLOWQ_URL is not set, and there is no .flowq/ here",
            "start one with `flowq dev`; or set FLOWQ_URL=redis://host:6379; or pass the URL 'embedded:'",
        )


class ServerUnreachable(ServerError):
    """Nothing answers at the URL, or what answers is not ready; and that for longer than the call may wait."""

    def __init__(self, url: str, reason: str, *, answered: bool = False) -> None:
        remedy = "check the host and port, that the server runs, and the network between"
        if answered:
            remedy = "make the call again later: it loads its data, runs a script, fails over or moves slots; see its log"
        elif url.startswith("unix:"):
            from urllib.parse import unquote, urlsplit

            remedy = f"check that a server listens on the socket {unquote(urlsplit(url).path)}, and that this user may open it"
        verb = "is not ready" if answered else "does not answer"
        super().__init__(f"the server at {masked(url)} {verb}: {reason}", remedy)


class ServerRefusedLogin(ServerError):
    """User or password is wrong or missing."""

    def __init__(self, url: str) -> None:
        form = "unix://user:password@/path/to/socket" if url.startswith("unix:") else "redis://user:password@host:6379"
        super().__init__(f"the server at {masked(url)} refused the login", f"set user and password in the URL: {form}")


class ServerForbids(ServerError):
    """The server's access rules forbid a command that flowq needs."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"the server at {masked(url)} forbids what flowq needs: {reason}",
            "grant this user the keys ~{flowq* and the channels &{flowq* (flowq: your namespace), and +@all -@dangerous +info",
        )


class NotARedisServer(ServerError):
    """Something else than Redis or Valkey answers at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"what answers at {masked(url)} is no Redis or Valkey: {reason}", "check the host and port of the URL")


class WrongKindOfServer(ServerError):
    """The URL is that of one server, and a cluster or a Sentinel answers; or the other way round."""

    def __init__(self, url: str, problem: str, form: str) -> None:
        super().__init__(f"what answers at {masked(url)} {problem}", f"use the URL {form}")


class ServerTooOld(ServerError):
    """The server is older than flowq supports."""

    def __init__(self, url: str, version: str) -> None:
        super().__init__(f"the server at {masked(url)} is {version}", "flowq needs Redis ≥ 7.0 or Valkey ≥ 7.2: upgrade it")


class ServerEvicts(ServerError):
    """The server would throw away keys when its memory is full."""

    def __init__(self, url: str, policy: str) -> None:
        super().__init__(
            f"the server at {masked(url)} evicts keys (maxmemory-policy {policy}), so flows could vanish",
            "set `maxmemory-policy noeviction`, or use a server that is no cache",
        )


class ServerIsReplica(ServerError):
    """The server is a read-only replica."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the server at {masked(url)} is a replica and refuses writes", "use the URL of its primary")


class ServerIsFull(ServerError):
    """The server has reached maxmemory; nothing was written."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the server at {masked(url)} is out of memory; nothing was written",
            "running flows drain it; or raise maxmemory, or shorten the retention of finished flows",
        )


class ServerReadOnly(ServerError):
    """The server refuses writes because it can't persist them (disk full, snapshot failing)."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the server at {masked(url)} refuses writes: {reason}", "free disk space on the server; see its log")


class DurabilityUnavailable(ServerError):
    """The promised durability can't be kept by this server; nothing was written."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(
            f"durability='fsync' needs `appendfsync always`, the server at {masked(url)} has {found}",
            "set appendonly yes and appendfsync always on the server, or drop the durability option",
        )


class SchemaNewer(ServerError):
    """The keys in this namespace were written by a newer flowq."""

    def __init__(self, namespace: str, found: int, known: int) -> None:
        super().__init__(
            f"namespace {namespace!r} has schema {found}, this flowq knows {known}",
            "upgrade flowq here, or use another namespace",
        )


class CorruptState(ServerError):
    """A key does not hold what flowq wrote: overwritten, deleted by hand, or damaged."""

    def __init__(self, flow_id: str, key: str, reason: str) -> None:
        if flow_id:
            super().__init__(f"flow {flow_id!r} is damaged: {key}: {reason}", "submit it again; other flows are not affected")
        else:
            super().__init__(f"{key} is damaged: {reason}", "other flows are not affected")
