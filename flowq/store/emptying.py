"""Removes a whole namespace. The one place that looks through all keys of a server: nothing that users keep is removed so."""

from __future__ import annotations

from redis import exceptions as refused

from flowq.store.connection import Connection, typed
from flowq.store.keys import Keys

_LOOKED_AT_ONCE = 1_000


async def check_removable(connection: Connection) -> None:
    """Raises ServerError: a server does not let this user look through its keys."""
    await connection.on_each("SCAN", "0", "COUNT", "1")


async def remove_namespace(connection: Connection, namespace: str) -> None:
    """Removes every key of a namespace in which nobody works any more, on every server. Takes longer the more others keep there.

    What every namespace has is removed first, also for who may not look for the rest.

    Raises:
        ServerError: the server can't be used; some may be left.
    """
    await connection.command("UNLINK", Keys(namespace).meta)
    for server in await connection.servers():
        cursor = b"0"
        while cursor is not None:
            try:
                following, keys = await server.one(("SCAN", cursor, "MATCH", f"{{{namespace}[:}}]*", "COUNT", _LOOKED_AT_ONCE))
            except (refused.RedisError, OSError) as error:
                raise typed(connection.url, error) from error
            await connection.commands(*(("UNLINK", key) for key in keys))
            cursor = following if int(following) else None
