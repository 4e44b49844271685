"""The weights of tenants: how many turns one has while another has one. Scripts read them when they hand out stages."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flowq.store.keys import WEIGHTS
from flowq.store.store import Store
from flowq.store.wire import Head

# Before a tenant's name: it is gated (scripts/standings.lua). No name begins with it.
_GATED = "="
_head = msgspec.msgpack.Decoder(Head)


class Tenants:
    """What is set for tenants, the same in every partition."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def set_weight(self, tenant: str, weight: float) -> None:
        """Sets a tenant's weight; 1 is what everybody has, so that is forgotten."""
        command = self._store.connection.command
        for tag in self._store.partitions:
            if weight == 1:
                await command("HDEL", tag + WEIGHTS, tenant)
            else:
                await command("HSET", tag + WEIGHTS, tenant, weight)

    async def weights(self) -> dict[str, float]:
        """The weights that differ from 1."""
        found: dict[bytes, bytes] = await self._store.connection.command("HGETALL", self._store.partitions[0] + WEIGHTS)
        weights = {tenant.decode(): float(weight) for tenant, weight in sorted(found.items())}
        return {tenant: weight for tenant, weight in weights.items() if not tenant.startswith(_GATED)}

    async def gate(self, tenant: str, *, is_on: bool) -> None:
        """Whether claims of the tenant's stages need permits: a limit `tenant:…` is set."""
        for tag in self._store.partitions:
            word = ("HSET", tag + WEIGHTS, _GATED + tenant, 1) if is_on else ("HDEL", tag + WEIGHTS, _GATED + tenant)
            await self._store.connection.command(*word)


async def tenants_of(store: Store, flow_ids: Sequence[str]) -> dict[str, str]:
    """Flow → whose it is, of those that are somebody's; what can't be read is nobody's."""
    heads = await store.connection.readable(*(("HGET", store.keys.flow(flow_id), "m") for flow_id in flow_ids))
    found: dict[str, str] = {}
    for flow_id, packed in zip(flow_ids, heads, strict=True):
        try:
            tenant = _head.decode(packed).tenant if packed else ""
        except msgspec.DecodeError:
            continue
        if tenant:
            found[flow_id] = tenant
    return found
