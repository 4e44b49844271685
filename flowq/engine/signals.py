"""Sends signals to flows."""

from __future__ import annotations

from typing import Any

from flowq.errors import FlowHasEnded, FlowNotFound, SignalConflict
from flowq.model.names import check_name
from flowq.model.values import packed_input
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views, state_of


async def send_signal(store: Store, flow_id: str, name: str, value: Any) -> bool:
    """See `FlowHandle.signal`."""
    data = packed_input(value, f"signal {check_name(name, 'signal')}", "value")
    match await Suspensions(store).signal(flow_id, name, data):
        case "unknown":
            raise FlowNotFound(flow_id)
        case "differs":
            raise SignalConflict(flow_id, name)
        case "ended":
            raise FlowHasEnded(flow_id, state_of(await Views(store).head(flow_id)))
        case word:
            return word == "signalled"
