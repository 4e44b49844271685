"""How the users of one server share it: the part of `FlowProducer` that sets it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from flowq.engine.client.client import Client
from flowq.errors import InvalidValue
from flowq.model.limit import OF_QUEUE, OF_TENANT, LimitRule, check_limit_name, check_limit_text
from flowq.model.names import check_name
from flowq.store.fleet import Fleet
from flowq.store.limits import Limits, LimitState
from flowq.store.tenants import Tenants
from flowq.store.views import Views

WEIGHT_MIN, WEIGHT_MAX = 0.01, 1_000


class Sharing(Client):
    """Weights of tenants, and limits."""

    async def set_weight(self, tenant: str, weight: float) -> None:
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
        await Tenants(self._open.store).set_weight(check_name(tenant, "tenant"), weight)

    async def weights(self) -> dict[str, float]:
        """Tenant → weight, of those whose weight is not 1."""
        return await Tenants(self._open.store).weights()

    async def set_limit(self, name: str, *, rate: Mapping[str, str] | str | None = None, concurrency: int | None = None) -> None:
        """Sets a named limit, or replaces it. Stages keep to it with `limit(name)`, all workers together.

        `queue:gpu` and `tenant:acme` are limits that workers keep to by themselves: so many stages of the queue, or of the
        tenant, run at once.

        Who waits for it sees a change within two seconds, and waits as long as the new rule says.

        Args:
            name: the limit's.
            rate: how much in which time: `"100/m"` requests, or `{"requests": "100/m", "tokens": "2000/m"}`. It holds for
                any period of that length, wherever it begins.
            concurrency: how many uses at once.

        Raises:
            InvalidValue: a name, rate or number is out of range.
        """
        rule = LimitRule.checked(check_limit_name(name), rate, concurrency)
        store = self._open.store
        limits = Limits(store)
        await limits.set(name, rule)
        if name.startswith(OF_TENANT):
            await Tenants(store).gate(name.removeprefix(OF_TENANT), is_on=True)
            await limits.mark()  # what was claimed until now is counted, too

    async def remove_limit(self, name: str) -> bool:
        """Removes a limit; False: there was none. Stages that use it, or wait for it, fail from then on: stop using it first.

        Raises:
            InvalidValue: no limit can be called so.
        """
        check_limit_text(name)  # also what limits nothing, and could be set once
        store = self._open.store
        if name.startswith(OF_TENANT):
            await Tenants(store).gate(name.removeprefix(OF_TENANT), is_on=False)
        return await Limits(store).remove(name)

    async def limits(self) -> list[LimitState]:
        """All limits as they stand."""
        store = self._open.store
        states = await Limits(store).states()
        full = {state.name for state in states if state.name.startswith((OF_QUEUE, OF_TENANT)) and state.is_full}
        if not full:
            return states
        ready = await Fleet(store, Views(store)).ready_by_limit(full)
        return [msgspec.structs.replace(state, waiting=state.waiting + ready.get(state.name, 0)) for state in states]
