"""`FlowHandle.retry`: reads the flow, decides what runs again, and has the store do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from flowq.engine.flow.again import chosen_again, item_meant, runs_again
from flowq.engine.flow.item_pages import item_page, stages_or_item
from flowq.engine.flow.one_flow import OneFlow
from flowq.engine.flow.overrides import checked_overrides, overridden, refuse_unused
from flowq.model.plan import Plan
from flowq.model.restart import restart
from flowq.model.snapshot import FlowSnapshot
from flowq.model.states import FINAL
from flowq.model.timing import Deadline, deadline_of
from flowq.store.wire import again_of


class RetriableFlow(OneFlow):
    """Runs stages again."""

    async def retry(
        self, *, from_stage: str | None = None, overrides: Mapping[str, Any] | None = None, deadline: Deadline | None = None
    ) -> int:
        """Runs stages of an ended flow again: those that failed, were cancelled or compensated, and all that uses their results.

        What else has completed stays. Results that are replaced are kept: see `result`.

        Args:
            from_stage: a stage, a pattern such as `encode*`, or an item such as `encode[17]`, to run again as well, though it
                completed. Of a map that failed only the items run again that have not completed; all do if it is named.
            overrides: argument → value: other values for literal arguments of the stages of `from_stage`, or, without it, of
                those that failed.
            deadline: how long from now the flow has, or until when, a datetime with a time zone; None: no deadline any more.

        Returns:
            How many stages run again that had begun, and items that had not completed; 0: none, or the flow has not ended. One
            that was cancelled though all of it had completed then has completed.

        Raises:
            FlowNotFound: it does not exist (any more).
            StageNotFound: no stage is called so, whether or not the flow has ended.
            InvalidValue: no such stage has this argument, or it is a child's result; the value does not fit; or nothing
                runs again that `overrides` could be for, such as while the flow has not ended; or the deadline is none.
            ValueNotStorable, ValueTooLarge: the value can't be stored.
            RetryOutOfTurn: its hooks have not ended; it is hooks, and their flow was retried; or another flow that was added
                under the same `Dedup` key has not ended, where one is to run at a time.
        """
        changes = checked_overrides(overrides)
        deadline_ms, deadline_at = deadline_of(deadline)
        plan = await self._plan()
        # The store refuses when the flow has changed since the snapshot, say because somebody else retries it.
        while (state := await self._state()) in FINAL:
            snapshot = await self.inspect()
            again = chosen_again(snapshot, plan, from_stage, changes)
            if not again.stages and not again.maps and snapshot.state == "completed":
                break
            literals = await overridden(self._backend.store, self.id, plan, again.overridable, changes)
            restarted = restart(plan, [stage.state for stage in snapshot.graph], again.stages, again.maps, again.alone)
            wanted = structs.replace(again_of(plan, restarted, literals), deadline_ms=deadline_ms, deadline_at=deadline_at)
            hooks_seq = snapshot.hooks.seq if snapshot.hooks else 0
            unfinished = await self._unfinished(snapshot, plan, from_stage)
            if await self._backend.store.retry(self.id, snapshot.seq, wanted, hooks_seq):
                return runs_again(snapshot, restarted, unfinished)
        if from_stage is not None:  # also where nothing runs again nobody shall take a wrong name for right
            await stages_or_item(self._backend.store, self.id, from_stage)
        refuse_unused(changes, self.id, state)
        return 0

    async def _unfinished(self, snapshot: FlowSnapshot, plan: Plan, name: str | None) -> tuple[int, int] | None:
        """The map and the number of a named item that has not completed; None: no item is named, or it has."""
        item = item_meant(snapshot, plan, name) if name is not None else None
        if item is None:
            return None
        page = await item_page(self._backend.store, self.id, plan.stages[item[0]].name, item[1], 1)
        # Failed and suspended items are listed, too.
        states = {one.name: one.state for one in page}
        return None if states.get(f"{name}") == "completed" else item
