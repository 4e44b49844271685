"""Which limits keep ready stages from being claimed: asked for a snapshot, so that it can say why."""

from __future__ import annotations

from collections.abc import Iterable

from flowq.model.limit import OF_QUEUE, OF_TENANT
from flowq.store.limits import Limits
from flowq.store.store import Store


async def full_limits(store: Store, queues: Iterable[str], tenant: str) -> dict[str, str]:
    """Limit → what it allows, of the limits of these queues and this tenant that are used up now."""
    limits = Limits(store)
    names = set(await limits.names())
    found: dict[str, str] = {}
    for name in sorted({*(OF_QUEUE + queue for queue in queues), OF_TENANT + tenant} & names):
        state = await limits.state(name)
        if state is not None and state.is_full:
            found[name] = str(state.rule)
    return found
