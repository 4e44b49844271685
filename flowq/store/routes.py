"""Which routes there are, a queue and a stage each: where something may wait. No keys are scanned.

Scripts note the routes of each plan with its first flow, and take them back with its last (scripts/routes.lua). What an earlier
flowq stored was never noted: of such plans those are read that the latest flows of each pipeline have, the flows that live
longest, and some that stages spawned; what is told of queues then is an estimate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

from flowq.errors import CorruptState
from flowq.model.fleet import WorkerSnapshot
from flowq.store.damage import text_of
from flowq.store.keys import BY, FLOW, LIVE, PIPELINES, PLAN, ROUTES, TREE, TREES
from flowq.store.store import Store
from flowq.store.submissions import UNCOUNTED

_NEWEST, _OLDEST = 3, 50
# Of what workers could serve, any of their stages in any of their queues, so much is looked at where not all routes are noted.
_SERVED_MAX = 10_000
_PAGE = 500


class KnownRoutes(NamedTuple):
    """The routes that are known. `is_complete`: whether there are no others."""

    routes: set[str]
    is_complete: bool


class Routes:
    """The routes of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def known(self, workers: Sequence[WorkerSnapshot]) -> KnownRoutes:
        """All routes of the flows that there are; of flows that an earlier flowq stored some, and what these workers serve."""
        routes: set[str] = set()
        missed: dict[str, str] = {}
        is_complete = True
        for tag in self._store.partitions:
            (names,) = await self._store.connection.readable(("HKEYS", tag + ROUTES))
            routes.update(map(text_of, names or ()))
            if names is None or UNCOUNTED in routes:
                is_complete = False
            missed |= await self._missed(tag, is_sure=is_complete)
            routes.discard(UNCOUNTED)
        if is_complete and not missed:
            return KnownRoutes(routes, is_complete=True)
        for digest, flow in missed.items():
            with suppress(CorruptState):  # one damaged flow must not hide the queues of others
                routes |= await (await self._store.plan(flow, digest)).routes()
        routes.update(islice(_served(workers), _SERVED_MAX))
        return KnownRoutes(routes, is_complete=False)

    async def _missed(self, tag: str, *, is_sure: bool) -> dict[str, str]:
        """Plan → a flow: of some flows, those plans that were not noted; all, where it is not sure that these are."""
        names: list[bytes] = await self._store.connection.command("HKEYS", tag + PIPELINES)
        asked = [("ZREVRANGE", f"{tag}{BY}pipeline:{name.decode()}", 0, _NEWEST - 1) for name in names]
        flows = {flow.decode() for ids in await self._paged([*asked, ("ZRANGE", tag + LIVE, 0, _OLDEST - 1)]) for flow in ids}
        flows |= await self._spawned(tag)
        digests = await self._paged([("HGET", tag + FLOW + flow, "p") for flow in flows])
        plans = {text_of(digest): flow for digest, flow in zip(digests, flows, strict=True) if digest is not None}
        noted = await self._store.connection.readable(*(("HGET", tag + PLAN + digest, "noted") for digest in plans))
        return {digest: flow for (digest, flow), mark in zip(plans.items(), noted, strict=True) if mark != b"1" or not is_sure}

    async def _spawned(self, tag: str) -> set[str]:
        """Some flows of each of the trees that were looked at longest ago: these stand in no other index."""
        trees = [tree.decode() for tree in await self._store.connection.command("ZRANGE", tag + TREES, 0, _OLDEST - 1)]
        found = await self._paged([("ZRANGE", tag + TREE + tree, 0, _NEWEST - 1) for tree in trees])
        roots = [tree.rpartition("@")[0] for tree in trees]
        return {root + name.decode() for root, names in zip(roots, found, strict=True) for name in names}

    async def _paged(self, asked: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [
            answer
            for start in range(0, len(asked), _PAGE)
            for answer in await self._store.connection.commands(*asked[start : start + _PAGE])
        ]


def _served(workers: Iterable[WorkerSnapshot]) -> Iterable[str]:
    return (f"{queue}:{stage}" for worker in workers for queue in worker.queues for stage in worker.stages)
