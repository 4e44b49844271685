"""Which lanes there are: where stages are ready. See scripts/lanes.lua and scripts/tenants.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from flowq.store.connection import Connection
from flowq.store.keys import LANES, TENANT_LANES

T = TypeVar("T")

_PAGE = 500


async def lanes_of(connection: Connection, tag: str, routes: Sequence[str]) -> list[tuple[str, str]]:
    """Route and name of all lanes of these routes in one partition; a name is `priority`, or `priority:tenant`."""
    found = await _members(connection, [(route, f"{tag}{LANES}{route}") for route in routes])
    # `5*` stands for the lanes of all tenants.
    shared = [(route, name[:-1]) for route, name in found if name.endswith("*")]
    keys = [((route, priority), f"{tag}{TENANT_LANES}{route}:{priority}") for route, priority in shared]
    of_tenants = [(route, f"{priority}:{tenant}") for (route, priority), tenant in await _members(connection, keys)]
    return [(route, name) for route, name in found if not name.endswith("*")] + of_tenants


async def _members(connection: Connection, keys: Sequence[tuple[T, str]]) -> list[tuple[T, str]]:
    found: list[tuple[T, str]] = []
    for start in range(0, len(keys), _PAGE):
        page = keys[start : start + _PAGE]
        answers = await connection.commands(*(("ZRANGE", key, 0, -1) for _, key in page))
        for (what, _), members in zip(page, answers, strict=True):
            found += [(what, member.decode("utf-8", "replace")) for member in members]
    return found
