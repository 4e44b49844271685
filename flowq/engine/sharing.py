"""How the users of one server share it: the part of `FlowProducer` that sets it."""

from __future__ import annotations

from typing import Protocol

from flowq.engine.handle import Opened
from flowq.errors import InvalidValue
from flowq.model.names import check_name
from flowq.store.tenants import Tenants

WEIGHT_MIN, WEIGHT_MAX = 0.01, 1_000


class _Client(Protocol):
    def _while_open(self) -> Opened: ...


class Sharing:
    """Weights of tenants."""

    async def set_weight(self: _Client, tenant: str, weight: float) -> None:
        """Gives a tenant more or fewer turns than others: with weight 3 it gets three stages while another gets one.

        It counts from the next claim on, also for flows that are there. What nobody else wants a tenant gets anyway.

        Args:
            tenant: whose.
            weight: 0.01 to 1,000; 1 is what everybody has.

        Raises:
            InvalidValue: the name can't be a tenant's, or the weight is out of range.
        """
        if type(weight) not in (int, float) or not WEIGHT_MIN <= weight <= WEIGHT_MAX:
            raise InvalidValue("weight", weight, f"a number from {WEIGHT_MIN} to {WEIGHT_MAX:,}")
        await Tenants(self._while_open().backend.store).set_weight(check_name(tenant, "tenant"), weight)

    async def weights(self: _Client) -> dict[str, float]:
        """Tenant → weight, of those whose weight is not 1."""
        return await Tenants(self._while_open().backend.store).weights()
