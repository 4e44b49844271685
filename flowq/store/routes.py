"""Which routes there are, a queue and a stage each: where something may wait. No keys are scanned.

Scripts note the routes of each plan with its first flow, and take them back with its last (scripts/routes.lua).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowq.store.damage import text_of
from flowq.store.keys import ROUTES
from flowq.store.store import Store
from flowq.store.submissions import UNCOUNTED

# The field that is no route.
_STAMP = "@"


class KnownRoutes(NamedTuple):
    """The routes that are known. `is_complete`: whether there are no others."""

    routes: set[str]
    is_complete: bool


async def known_routes(store: Store, served: Iterable[str]) -> KnownRoutes:
    """All routes of the flows that there are, and those that live workers serve."""
    noted = await store.connection.readable(*(("HKEYS", tag + ROUTES) for tag in store.partitions))
    routes = {*served, *(text_of(name) for names in noted for name in names or ())}
    is_complete = None not in noted and UNCOUNTED not in routes
    return KnownRoutes(routes - {_STAMP, UNCOUNTED}, is_complete)
