"""Which lanes there are: where stages are ready. See scripts/lanes.lua and scripts/tenants.lua."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from flowq.store.connection import Connection
from flowq.store.damage import read_in_pages
from flowq.store.keys import LANE, LANES, TENANT_LANES
from flowq.store.wants import queue_of


class Lane(NamedTuple):
    """Where stages of one route wait in one partition.

    Attributes:
        tag: the partition's.
        route: a queue and a stage.
        name: `priority`, or `priority:tenant`.
        stands_for: how many lanes like it there are, itself included: of very many tenants' not all are named.
    """

    tag: str
    route: str
    name: str
    stands_for: float = 1.0

    @property
    def key(self) -> str:
        """The key of its list."""
        return f"{self.tag}{LANE}{self.route}:{self.name}"

    @property
    def queue(self) -> str:
        """The queue of its route."""
        return queue_of(self.route)

    @property
    def tenant(self) -> str:
        """Whose stages wait there; empty: nobody's in particular."""
        return self.name.partition(":")[2]


async def lanes_of(connection: Connection, tags: Iterable[str], routes: Collection[str], most: int | None = None) -> list[Lane]:
    """All lanes of these routes in these partitions. `most`: of tenants about so many; the others are taken to be like them."""
    every = [(tag, route) for tag in tags for route in routes]
    answers = await read_in_pages(connection, [("ZRANGE", f"{tag}{LANES}{route}", 0, -1) for tag, route in every])
    found = [
        Lane(*of_route, member.decode("utf-8", "replace"))
        for of_route, members in zip(every, answers, strict=True)
        for member in members or ()
    ]
    # `5*` stands for the lanes of all tenants.
    shared = [lane._replace(name=lane.name[:-1]) for lane in found if lane.name.endswith("*")]
    lanes = [lane for lane in found if not lane.name.endswith("*")]
    keys = [f"{lane.tag}{TENANT_LANES}{lane.route}:{lane.name}" for lane in shared]
    end = -1 if most is None else most // max(1, len(keys))
    answers = await read_in_pages(connection, [each for key in keys for each in (("ZCARD", key), ("ZRANGE", key, 0, end))])
    for lane, total, tenants in zip(shared, answers[::2], answers[1::2], strict=True):
        names = [f"{lane.name}:{tenant.decode('utf-8', 'replace')}" for tenant in tenants or ()]
        lanes += [lane._replace(name=name, stands_for=max(1.0, total / len(names))) for name in names]
    return lanes
