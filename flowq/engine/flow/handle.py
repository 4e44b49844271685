"""`FlowHandle`: one flow, to follow and to steer. Holds an id and a type, no state: the server has that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

from flowq.engine.duties.closing import cancel
from flowq.engine.flow.flow_logs import FlowLogs
from flowq.engine.flow.following import live_events
from flowq.engine.flow.item_pages import item_page, stages_or_item
from flowq.engine.flow.one_flow import Look, Opened
from flowq.engine.flow.results import made_of, read_result
from flowq.engine.flow.retrying import RetriableFlow
from flowq.engine.flow.signals import SignalledFlow
from flowq.engine.flow.spawned import failure_of_flow
from flowq.errors import CorruptState, FlowCancelled, FlowNotFound, FlowNotMade, FlowTimedOut, InvalidValue
from flowq.model.artifact import Artifact
from flowq.model.dedup import Addition
from flowq.model.duration import Duration, to_ms
from flowq.model.event import Event, Gap
from flowq.model.pause import as_kept
from flowq.model.schedule import CALLED_OFF
from flowq.model.snapshot import StageSnapshot
from flowq.model.states import FINAL
from flowq.store.events import WireEvent
from flowq.store.feed import named
from flowq.store.pauses import Pauses
from flowq.store.schedules import Schedules
from flowq.store.views import FLOW_STATES, Views

R = TypeVar("R")

# Beside the server's message that the flow has ended, which may be lost.
_POLL_SECONDS = 5.0
# Until the server has said that it will tell of a flow's end.
_LISTENS_SECONDS = 0.05
# Of a flow whose result is made of more results these are read once it has ended.
_READ_WITH_END_MAX = 100


class FlowHandle(RetriableFlow, SignalledFlow, FlowLogs, Generic[R]):
    """A flow. Get one from `producer.add` or `producer.flow`.

    Attributes:
        id: the flow's id.
        is_new: whether the `add` that returned this handle stored the flow; False: there was one of this id already.
        addition: what that `add` did: `added`; with a `Dedup` also `kept`: it waits until another has ended; `replaced`: it took
            the place of one that had not begun; or `found`: it added nothing.
    """

    # `pipeline` is checked before a result is read.
    def __init__(
        self,
        opened: Callable[[], Opened],
        flow_id: str,
        result_type: Any,
        *,
        addition: Addition = "found",
        pipeline: str | None = None,
    ) -> None:
        super().__init__(opened, flow_id)
        self.addition: Addition = addition
        self.is_new = addition in ("added", "kept")
        self._has_waited = False
        self._result_type = result_type
        self._pipeline = pipeline

    async def items(self, stage: str, start: int = 0, limit: int = 100) -> tuple[StageSnapshot, ...]:
        """A page of the items of a map as they stand; empty: there are no more, or the list is not known yet.

        Args:
            stage: the map's name.
            start: the number of the first.
            limit: how many at most, 1 to 10,000.

        Raises:
            FlowNotFound: it does not exist (any more).
            StageNotFound: no stage is called so.
            InvalidValue: `start` or `limit` is out of range; or the stage is no map.
        """
        page = await self._read(lambda: item_page(self._backend.store, self.id, stage, start, limit))
        if not page:
            plan = await self._plan()
            if plan.stages[plan.index_of[stage]].mapping is None:
                raise InvalidValue("stage", stage, "a map: only they have items")
        return page

    async def result(self, timeout: Duration | None = None, *, run: int | None = None) -> R:
        """Waits until the flow has ended and returns what its pipeline returns.

        Args:
            timeout: give up after so long; the flow goes on.
            run: what it returned in an earlier run, counted from 1, before it was retried by hand; without waiting.

        Raises:
            FlowFailed: carries the root cause.
            FlowCancelled: it was cancelled.
            FlowTimedOut: it has not ended in time.
            FlowNotFound: it does not exist (any more).
            ServerForbids: this user may not subscribe to the message that the flow has ended.
            InvalidValue: it is a flow of another pipeline than `producer.flow` was given; or it did not complete in such a run.
        """
        seconds = None if timeout is None else to_ms(timeout, "timeout") / 1000
        give_up_at = None if seconds is None else time.monotonic() + seconds
        if not await self._is_made(seconds):
            raise FlowTimedOut(self.id, seconds or 0)
        if run is not None:
            await self._refuse_another_pipeline()
            if type(run) is not int or not await self._backend.store.completed_in(self.id, run):
                raise InvalidValue("run", run, f"a number of an earlier run in which flow {self.id!r} completed")
            return await read_result(self._backend, self.id, await self._plan(), self._result_type, run)
        try:
            await self._refuse_another_pipeline()
            end = await self._ended(seconds, give_up_at)
        except FlowNotMade as error:
            raise FlowCancelled(self.id, CALLED_OFF) if error.is_cancelled else error from None
        if end.state == "failed":
            raise await failure_of_flow(self._backend.store, self.id)
        if end.state == "cancelled":
            raise FlowCancelled(self.id, (await self.inspect()).cancel_reason)
        return await read_result(self._backend, self.id, await self._plan_of(end.plan), self._result_type, known=end.results)

    async def events(self, after: int = 0) -> AsyncIterator[Event | Gap]:
        """The flow's events in order, from number `after` + 1 on, until the flow ends.

        Progress is told as it comes; it has no number, nor has `held`, which tells why a stage does not run when nothing has
        happened for a while. Where numbered events were trimmed from the server's log, a `Gap` with a snapshot stands in
        their place.

        Raises:
            FlowNotFound: it does not exist (any more).
            InvalidValue: `after` is no whole number from 0 on.
            ServerError: the server can't be used.
        """
        if type(after) is not int or after < 0:
            raise InvalidValue("after", after, "the number of an event, or 0")
        await self._is_made(None)
        name = (await self._plan()).name_of
        queue: asyncio.Queue[WireEvent] = asyncio.Queue()
        stop_following = await self._opened().feed.follow(self.id, queue.put_nowait)
        try:
            snapshot = await self.inspect()
            seq, has_ended = after, False
            since = snapshot.dedup.since if snapshot.dedup else snapshot.created_at
            for event in await self._opened().feed.past(self.id, after, since):
                if event.seq <= seq:
                    continue
                if event.seq > seq + 1:
                    yield Gap(flow_id=self.id, after=seq, before=event.seq, snapshot=snapshot)
                seq = event.seq
                told = named(event, name)
                has_ended = told.ends_the_flow
                yield told
            # It may have ended after the snapshot was taken; that event then stood in the stream, and comes no more.
            if has_ended or (snapshot.is_final and seq >= snapshot.seq):
                return
            if snapshot.is_final or seq < snapshot.seq:
                snapshot = await self.inspect()
                yield Gap(flow_id=self.id, after=seq, before=snapshot.seq + 1, snapshot=snapshot)
                seq = snapshot.seq
                if snapshot.is_final:
                    return
            async for event in live_events(queue, seq, name, self.inspect, self._plan):
                yield event
        finally:
            stop_following()

    async def cancel(self, reason: str = "") -> bool:
        """Cancels the flow; stages that run are told. True: it is cancelled now, by this call or an earlier one.

        Of a schedule that somebody has run, and of which no worker has made the flow yet, it is not made any more.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        schedules = Schedules(self._backend.store)
        is_called_off = await schedules.call_off(self.id)
        try:
            word = await cancel(self._backend.store, self.id, as_kept(reason))
        except FlowNotFound:
            if is_called_off:
                return True
            raise
        if is_called_off:  # it was made just before: who retries it now must not have it cancelled again
            await schedules.forget(self.id)
        return FLOW_STATES.get(word, word) == "cancelled"

    async def pause(self, *, by: str = "") -> bool:
        """Pauses the flow: what runs of it goes on, nothing new of it is begun. Its deadline still counts.

        Args:
            by: who pauses it; shown by `inspect`.

        Returns:
            Whether it is paused now, by this call or an earlier one; False: it has ended.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        return await self._has_become(await Pauses(self._backend.store).pause("flow", self.id, as_kept(by)), "paused")

    async def resume(self) -> bool:
        """Resumes the flow, whether it was paused or not; False: it has ended.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        return await self._has_become(await Pauses(self._backend.store).resume("flow", self.id), "resumed")

    async def artifact(self, stage: str, name: str | None = None) -> Artifact:
        """An artifact that a completed stage wrote.

        Args:
            stage: the stage's name, or a pattern such as `encode*`.
            name: the artifact's name; None: its only one.

        Raises:
            StageNotFound: no such stage.
            InvalidValue: it has no such artifact, or several and none was named.
        """
        found = await self._read(lambda: stages_or_item(self._backend.store, self.id, stage))
        artifacts = [artifact for known in found for artifact in known.artifacts if name is None or artifact.name == name]
        if len(artifacts) != 1:
            names = sorted({artifact.name for known in found for artifact in known.artifacts})
            raise InvalidValue(
                f"artifact of {stage}", name, f"one of {', '.join(names)}" if names else "a stage that has written one"
            )
        return artifacts[0]

    def __repr__(self) -> str:
        return f"<FlowHandle {self.id}>"

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _has_become(self, word: str, wanted: str) -> bool:
        if word == "unknown":
            raise await self._not_found()
        return word == wanted

    async def _refuse_another_pipeline(self) -> None:
        if not (wanted := self._pipeline):
            return
        header = await self._read(lambda: Views(self._backend.store).header(self.id))
        if (found := header.pipeline) != wanted:
            raise InvalidValue(f"the pipeline of flow {self.id!r}", found, f"{wanted!r}, which producer.flow(id, …) was given")

    async def _ended(self, seconds: float | None, give_up_at: float | None) -> Look:
        """How it has ended; if the server told so, with the results that its own is made of."""
        told, plan, wanted = asyncio.Event(), "", list[int]()
        undo = self._backend.wakeups.on_end(self.id, told.set)

        def left() -> float:
            return _POLL_SECONDS if give_up_at is None else min(_POLL_SECONDS, give_up_at - time.monotonic())

        try:
            if self.is_new and not self._has_waited and seconds != 0:  # hardly ended yet: to look once it is listened for will do
                await _within(_LISTENS_SECONDS if seconds is None else min(_LISTENS_SECONDS, seconds), told)
                self._has_waited = True
            while True:
                is_told = told.is_set()
                told.clear()
                look = await self._look(wanted if is_told else ())
                if look.state in FINAL:
                    return look
                if left() <= 0:
                    raise FlowTimedOut(self.id, seconds or 0)
                self._backend.wakeups.refuse_without_rights()
                if look.plan != plan:
                    plan, wanted = look.plan, await self._made_of(look.plan)
                await _within(max(0.0, left()), told)
        finally:
            undo()

    async def _made_of(self, digest: str) -> list[int]:
        """The stages whose results its own is made of; none: they are many, or can't be told while it runs."""
        found: list[int] = []
        with contextlib.suppress(CorruptState, FlowNotFound):  # if it stays so, that is told when the flow has ended
            found = made_of((await self._backend.store.plan(self.id, digest)).head.output) if digest else []
        return found if len(found) <= _READ_WITH_END_MAX else []


async def _within(seconds: float, told: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await told.wait()
