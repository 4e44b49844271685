"""Permits for the stages of one process: acquired before they are needed, returned afterwards, renewed with the lease."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from flowq.engine.run.context import context
from flowq.errors import DefinitionError, FlowqError
from flowq.model.limit import LimitUse, LimitWait
from flowq.pipeline.limit import Permit, hold, is_within
from flowq.store.limits import Granted, Limits, Waits
from flowq.store.store import Store

_LOOKS_SECONDS = 0.5
# How soon who waits for a rate sees that it was changed, or removed.
_LOOK_AGAIN_MS = 2_000
# Told what is waited for, and until when.
OnWait = Callable[[LimitWait], None]


class HeldPermit:
    """One permit of a limit."""

    def __init__(self, limits: Limits, use: LimitUse, holder: str, permit: str) -> None:
        self._limits = limits
        self.use = use
        self.is_held = True
        self._holder = holder
        self._permit = permit
        self._loop = asyncio.get_running_loop()

    async def give_back(self) -> None:
        """Returns it; if that fails it expires with the holder's lease."""
        self.is_held = False
        returning = _returned(self._limits, self.use, self._holder, self._permit)
        if asyncio.get_running_loop() is self._loop:
            await returning
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(returning, self._loop))

    def give_back_soon(self) -> asyncio.Task[None]:
        """The same for who can't wait."""
        return _soon(self.give_back())


class Limiter:
    """Hands out permits to the stages of one holder.

    Args:
        store: the store.
        holder: whose lease the permits have.
        on_used: called before it asks for a permit: `asked` has changed.
    """

    def __init__(self, store: Store, holder: str, on_used: Callable[[], None] | None = None) -> None:
        self._limits = Limits(store)
        self._holder = holder
        self._on_used = on_used
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._lease_ms = 0
        self._asked = 0

    async def acquire_all(self, uses: Sequence[LimitUse], tell: Callable[[str], None]) -> list[HeldPermit]:
        """All of these or none; whoever has to wait is told for what, and when that is over."""
        permits: list[HeldPermit] = []
        told: list[LimitWait] = []

        def on_wait(wait: LimitWait) -> None:
            told.append(wait)
            tell(wait.message)

        try:
            for use in uses:
                permits.append(await self.acquire(use, on_wait))
                hold(permits[-1])  # the run has a task of its own: what it enters within this one is seen
        except BaseException:
            for permit in permits:
                permit.give_back_soon()
            raise
        if told:
            tell("")
        return permits

    @property
    def asked(self) -> int:
        """How often permits were asked for so far: as long as that stays as it is, none are added to those that there are."""
        return self._asked

    async def lease_ms(self) -> int:
        """How long permits last without a sign of life, for who is about to ask for some."""
        if not self._lease_ms:
            self._lease_ms = await self._limits.lease_of(self._holder)
        self._asked += 1
        if self._on_used is not None:
            self._on_used()
        return self._lease_ms

    def name(self) -> str:
        """A name for a permit that no other has."""
        return f"{self._holder}.{next(self._numbers)}"

    async def acquire(self, use: LimitUse, on_wait: OnWait | None = None) -> HeldPermit:
        """See `_acquired`; also for who runs in a loop of its own, such as that of `asyncio.run` in a stage's thread."""
        if asyncio.get_running_loop() is self._loop:
            return await self._acquired(use, on_wait)
        asking = _Asking(self._loop, self._acquired(use, on_wait))
        try:
            return await asyncio.wrap_future(asking.future)
        except asyncio.CancelledError:
            asking.give_up()
            raise

    async def _acquired(self, use: LimitUse, on_wait: OnWait | None) -> HeldPermit:
        """Waits until the limit allows this use.

        A rate says at once from when on it may be used. It is asked again meanwhile, because it may be changed; and for a place
        among concurrent uses.

        Raises:
            LimitNotSet, InvalidValue, DefinitionError: it is never allowed.
        """
        permit, shown, told = self.name(), _ShownByStage(), None
        asking: asyncio.Task[Granted | Waits] | None = None
        try:
            while True:
                lease_ms = await self.lease_ms()
                asked = self._limits.acquire(use, permit, self._holder, lease_ms, is_within=is_within(use))
                asking = self._loop.create_task(asked)
                answer = await asyncio.shield(asking)
                is_granted = isinstance(answer, Granted)
                if is_granted and answer.at <= answer.now:
                    shown.over()
                    return HeldPermit(self._limits, use, self._holder, permit)
                wait = LimitWait(use.name, answer.at if is_granted else 0)
                if not is_granted or wait != told:
                    (on_wait or shown)(wait)
                told = wait
                await asyncio.sleep((min(answer.at, answer.now + _LOOK_AGAIN_MS) - answer.now) / 1000)
        except BaseException:
            shown.over()
            # Not awaited: who is cancelled goes at once. Should this process die first, the permit expires.
            _soon(_returned(self._limits, use, self._holder, permit, after=asking))
            raise

    def soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Returns permits without waiting for it."""
        _soon(_quietly(work))

    def acquire_in_thread(self, use: LimitUse) -> HeldPermit:
        """The same for a thread. The loop goes on meanwhile.

        Raises:
            DefinitionError: it is the loop's own: it would wait for itself, with all that runs there.
        """
        with contextlib.suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                raise DefinitionError(f"`with limit({use.name!r})` stands in an async function", "write `async with`")
        asking = _Asking(self._loop, self._acquired(use, None))
        while True:
            try:
                return asking.future.result(_LOOKS_SECONDS)
            except TimeoutError:
                if asking.future.done():
                    raise
                if context().cancelled:  # a thread can't be told; it looks
                    asking.give_up()
                    raise asyncio.CancelledError from None

    def give_back_in_thread(self, permit: Permit) -> None:
        """Returns a permit from a thread."""
        asyncio.run_coroutine_threadsafe(permit.give_back(), self._loop).result()


class _Asking:
    """Somebody in another loop, or in a thread, waits for a permit of this one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, acquiring: Coroutine[Any, Any, HeldPermit]) -> None:
        self._loop = loop
        self._granted: list[HeldPermit] = []
        self.future = asyncio.run_coroutine_threadsafe(self._noted(acquiring), loop)

    async def _noted(self, acquiring: Coroutine[Any, Any, HeldPermit]) -> HeldPermit:
        self._granted.append(await acquiring)
        return self._granted[0]

    def give_up(self) -> None:
        """It no longer waits. What is granted meanwhile, also before the future has heard of it, is returned."""
        self.future.cancel()
        with contextlib.suppress(RuntimeError):  # the loop has ended: it expires with the holder's lease
            self._loop.call_soon_threadsafe(give_back_soon, self._granted)


class _ShownByStage:
    """Tells with the progress of the stage that runs here what it waits for: it keeps its slot, and its state."""

    def __init__(self) -> None:
        self._is_shown = False

    def __call__(self, wait: LimitWait) -> None:
        self._is_shown = True
        context().show_wait(wait.message)

    def over(self) -> None:
        if self._is_shown:
            context().show_wait("")


_returning: set[asyncio.Task[None]] = set()


def _soon(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(work)
    _returning.add(task)
    task.add_done_callback(_returning.discard)
    return task


async def give_all_back(permits: Sequence[HeldPermit]) -> None:
    """Returns permits. A cancel ends only the waiting: they are returned all the same, as no lease ends for them while their
    holder lives, and the outcome of the stage that had them stands."""
    if permits:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(give_back_soon(permits))


def give_back_soon(permits: Sequence[HeldPermit]) -> list[asyncio.Task[None]]:
    """Returns permits without waiting for it."""
    return [permit.give_back_soon() for permit in permits]


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(FlowqError):  # they expire with the holder's lease
        await work


async def _returned(
    limits: Limits, use: LimitUse, holder: str, permit: str, *, after: asyncio.Task[Granted | Waits] | None = None
) -> None:
    if after is not None:  # or the answer that is under way would lend it again
        await asyncio.wait([after])
        if not after.cancelled():
            after.exception()
    with contextlib.suppress(FlowqError):
        await asyncio.shield(limits.give_back(use, holder, [permit], is_unused=after is not None))
