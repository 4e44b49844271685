"""Is this server one that flowq can trust with work? Asked once when a client opens, and by `flowq doctor`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from flowq.errors import (
    FlowqError,
    NotARedisServer,
    ServerEvicts,
    ServerForbids,
    ServerIsReplica,
    ServerTooOld,
    WrongKindOfServer,
)
from flowq.store.addresses import named
from flowq.store.connection import Connection

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server says of itself.

    Attributes:
        product: `Redis` or `Valkey`.
        version: its version, such as `9.1.2`.
        role: `master` or `slave`.
        eviction: its maxmemory-policy.
        maxmemory: bytes; 0: no limit.
        used_memory: bytes.
        aof: whether it keeps an append-only file.
        fsync: `always`, `everysec`, `no`, or "" where the server does not tell.
        aof_ok: whether its last write to the append-only file succeeded.
        clients: how many connections it has.
        is_cluster: whether it runs in cluster mode.
        nodes: how many servers this is said of: of a cluster, each figure is that of the worst primary.
        address: of one of several: its host and port.
        replicas: how many copies of it are kept up to date; of several servers: of that with the fewest.
    """

    product: str
    version: str
    role: str
    eviction: str
    maxmemory: int
    used_memory: int
    aof: bool
    fsync: str
    aof_ok: bool
    clients: int
    is_cluster: bool
    nodes: int = 1
    address: str = ""
    replicas: int = 0


async def server_infos(connection: Connection) -> list[ServerInfo]:
    """Asks the server, or every primary of a cluster.

    Raises:
        NotARedisServer: it does not answer INFO as Redis does.
        WrongKindOfServer: it is a Sentinel, or a node of a cluster that is taken for a server alone.
    """
    answers, fsync = await connection.on_each("INFO"), await _fsync(connection)
    addresses = [named(server.host) if server.host[0] else "" for server in await connection.servers()]
    return [_info(connection, raw, *beside) for raw, *beside in zip(answers, fsync, addresses, strict=True)]


async def refuse_unfit(connection: Connection) -> ServerInfo:
    """Refuses servers that could lose work or can't run the scripts. What it returns is true of all of them.

    Raises:
        ServerTooOld, ServerEvicts, ServerIsReplica, NotARedisServer, WrongKindOfServer: before anything is written.
    """
    infos = await server_infos(connection)
    for info in infos:
        if (refusal := _refusal(connection.url, info)) is not None:
            raise refusal
    return infos[0] if len(infos) == 1 else _worst(infos)


def _info(connection: Connection, raw: object, fsync: str, address: str) -> ServerInfo:
    fields: dict[str, str] = {}
    if isinstance(raw, dict):
        fields = {str(name): str(value) for name, value in raw.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    version = fields.get("valkey_version") or fields.get("redis_version")
    if version is None:
        raise NotARedisServer(connection.url, "INFO has no version")
    if fields.get("server_mode", fields.get("redis_mode")) == "sentinel":
        form = "redis+sentinel://host:26379/service, with the name from the Sentinel's configuration"
        raise WrongKindOfServer(connection.url, "is a Sentinel", form)
    is_cluster = fields.get("cluster_enabled") == "1"
    if is_cluster and not connection.is_cluster:
        raise WrongKindOfServer(connection.url, "is a node of a cluster", "redis+cluster://host:6379")
    return ServerInfo(
        product="Valkey" if "valkey_version" in fields else "Redis",
        version=version,
        role=fields.get("role", ""),
        eviction=fields.get("maxmemory_policy", ""),
        maxmemory=int(fields.get("maxmemory", 0)),
        used_memory=int(fields.get("used_memory", 0)),
        aof=fields.get("aof_enabled") == "1",
        fsync=fsync,
        aof_ok=fields.get("aof_last_write_status", "ok") == "ok",
        clients=int(fields.get("connected_clients", 0)),
        is_cluster=is_cluster,
        address=address,
        replicas=int(fields.get("connected_slaves", 0)),
    )


def _refusal(url: str, info: ServerInfo) -> FlowqError | None:
    at = f"{url} (node {info.address})" if info.is_cluster else url
    numbers = tuple(int(part) for part in re.findall(r"\d+", info.version)[:2])
    if numbers < (OLDEST_VALKEY if info.product == "Valkey" else OLDEST_REDIS):
        return ServerTooOld(at, f"{info.product} {info.version}")
    if info.role == "slave":
        return ServerIsReplica(at)
    return ServerEvicts(at, info.eviction) if info.eviction not in ("", "noeviction") else None


def _worst(infos: Sequence[ServerInfo]) -> ServerInfo:
    """What may be said of several servers at once."""
    fullest = max(infos, key=lambda info: info.used_memory / info.maxmemory if info.maxmemory else 0.0)
    return msgspec.structs.replace(
        fullest,
        version=min((info.version for info in infos), key=lambda version: [int(part) for part in re.findall(r"\d+", version)]),
        aof=all(info.aof for info in infos),
        fsync=next((info.fsync for info in infos if info.fsync != "always"), "always"),
        aof_ok=all(info.aof_ok for info in infos),
        clients=sum(info.clients for info in infos),
        nodes=len(infos),
        replicas=min(info.replicas for info in infos),
    )


async def _fsync(connection: Connection) -> list[str]:
    try:
        answers = await connection.on_each("CONFIG", "GET", "appendfsync")
    except (ServerForbids, NotARedisServer):  # the latter: hosted servers may have no such command; INFO told what they are
        return [""] * len(await connection.servers())
    return [_value(answer) for answer in answers]


def _value(answer: object) -> str:
    found = {_text(name): _text(value) for name, value in answer.items()} if isinstance(answer, dict) else {}  # pyright: ignore
    if not found and isinstance(answer, list) and len(answer) == 2:  # pyright: ignore[reportUnknownArgumentType]
        return _text(answer[1])  # pyright: ignore[reportUnknownArgumentType]
    return found.get("appendfsync", "")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
