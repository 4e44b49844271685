"""Sends signals to flows: a part of `FlowHandle`."""

from __future__ import annotations

from typing import Any

from flowq.engine.flow.one_flow import OneFlow
from flowq.errors import FlowHasEnded, SignalConflict
from flowq.model.names import check_name
from flowq.model.values import packed_input
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views, state_of


class SignalledFlow(OneFlow):
    """Sends signals to one flow."""

    async def awaits(self, name: str) -> bool:
        """Whether a stage waits for this signal now. Else a signal is kept for who asks for it later.

        Raises:
            InvalidValue: no signal can be called so.
        """
        return await Suspensions(self._backend.store).is_awaited(self.id, check_name(name, "signal"))

    async def signal(self, name: str, value: Any = None) -> bool:
        """Hands a value to the stages that wait for it, now or later. The first value of a name counts.

        Returns:
            Whether it is new; False: this very value was sent before.

        Raises:
            SignalConflict: another value was sent before.
            FlowNotFound, FlowHasEnded: there is nobody who could wait for it.
            InvalidValue, ValueNotStorable, ValueTooLarge: the name or the value is refused.
        """
        data, store = packed_input(value, f"signal {check_name(name, 'signal')}", "value"), self._backend.store
        match await Suspensions(store).signal(self.id, name, data):
            case "unknown":
                raise await self._not_found()
            case "differs":
                raise SignalConflict(self.id, name)
            case "ended":
                raise FlowHasEnded(self.id, state_of(await Views(store).head(self.id)))
            case word:
                return word == "signalled"
