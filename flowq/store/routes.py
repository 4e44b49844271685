"""Which routes there are, a queue and a stage each: where something may wait. No keys are scanned.

Scripts note the routes of each plan with its first flow, and take them back with its last (scripts/routes.lua).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import NamedTuple

from flowq.store.damage import text_of
from flowq.store.keys import PIPELINES, ROUTES, ROUTES_LOST, ROUTES_STAMP, ROUTES_UNCOUNTED
from flowq.store.store import Store

# Of what workers could serve, any of their stages in any of their queues, so much is looked at where not all routes are noted.
_SERVED_MAX = 10_000


class KnownRoutes(NamedTuple):
    """The routes that are known. `is_complete`: whether there are no others."""

    routes: set[str]
    is_complete: bool


async def known_routes(store: Store, served: Iterable[Collection[str]]) -> KnownRoutes:
    """All routes of the flows that there are; where some may not be noted, what each of the live workers serves, too."""
    asked = [question for tag in store.partitions for question in (("HKEYS", tag + ROUTES), ("EXISTS", tag + PIPELINES))]
    answers = await store.connection.readable(*asked)
    fields: set[str] = set()
    is_complete = True
    for noted, has_flows in zip(answers[::2], answers[1::2], strict=True):
        names = set(map(text_of, noted or ()))
        is_complete = is_complete and (ROUTES_STAMP in names or not has_flows) and not names & {ROUTES_UNCOUNTED, ROUTES_LOST}
        fields |= names
    routes = fields - {ROUTES_STAMP, ROUTES_LOST, ROUTES_UNCOUNTED}
    if not is_complete:
        routes.update(islice(set[str]().union(*served), _SERVED_MAX))
    return KnownRoutes(routes, is_complete)
