"""Is this server one that flowq can trust with work? Asked once when a client opens, and by `flowq doctor`."""

from __future__ import annotations

import re

import msgspec

from flowq.errors import NotARedisServer, ServerEvicts, ServerForbids, ServerIsReplica, ServerTooOld, masked
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


async def server_info(connection: Connection) -> ServerInfo:
    """Asks the server.

    Raises:
        NotARedisServer: it does not answer INFO as Redis does.
    """
    raw = await connection.command("INFO")
    fields: dict[str, str] = {}
    if isinstance(raw, dict):
        fields = {str(name): str(value) for name, value in raw.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    version = fields.get("valkey_version") or fields.get("redis_version")
    if version is None:
        raise NotARedisServer(connection.url, "INFO has no version")
    return ServerInfo(
        product="Valkey" if "valkey_version" in fields else "Redis",
        version=version,
        role=fields.get("role", ""),
        eviction=fields.get("maxmemory_policy", ""),
        maxmemory=int(fields.get("maxmemory", 0)),
        used_memory=int(fields.get("used_memory", 0)),
        aof=fields.get("aof_enabled") == "1",
        fsync=await _fsync(connection),
        aof_ok=fields.get("aof_last_write_status", "ok") == "ok",
        clients=int(fields.get("connected_clients", 0)),
        is_cluster=fields.get("cluster_enabled") == "1",
    )


async def refuse_unfit(connection: Connection) -> ServerInfo:
    """Refuses a server that could lose work or can't run the scripts.

    Raises:
        ServerTooOld, ServerEvicts, ServerIsReplica, NotARedisServer: before anything is written.
    """
    info = await server_info(connection)
    numbers = tuple(int(part) for part in re.findall(r"\d+", info.version)[:2])
    if numbers < (OLDEST_VALKEY if info.product == "Valkey" else OLDEST_REDIS):
        raise ServerTooOld(connection.url, f"{info.product} {info.version}")
    if info.role == "slave":
        raise ServerIsReplica(connection.url)
    if info.eviction not in ("", "noeviction"):
        raise ServerEvicts(connection.url, info.eviction)
    if info.is_cluster:
        raise NotARedisServer(
            connection.url, f"it is a node of a cluster, which this release can't use yet ({masked(connection.url)})"
        )
    return info


async def _fsync(connection: Connection) -> str:
    try:
        answer = await connection.command("CONFIG", "GET", "appendfsync")
    except (ServerForbids, NotARedisServer):  # the latter: hosted servers may have no such command; INFO told what they are
        return ""
    found = {_text(name): _text(value) for name, value in answer.items()} if isinstance(answer, dict) else {}  # pyright: ignore
    if not found and isinstance(answer, list) and len(answer) == 2:  # pyright: ignore[reportUnknownArgumentType]
        return _text(answer[1])  # pyright: ignore[reportUnknownArgumentType]
    return found.get("appendfsync", "")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
