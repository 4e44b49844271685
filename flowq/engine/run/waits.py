"""What one run of a stage waits for: sleeps, signals, flows that it spawned. Used by `context()`, one object per run that waits.

Who waits for what is not there yet does not go on: some milliseconds after the last wait has begun, so that waits that stand
side by side in one `asyncio.gather` are all known, the stage's task is cancelled and the stage suspended. When it is resumed its
function starts again at its first line; what it awaited before is there then, and returns at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import msgspec

from flowq.artifacts.storage import Storage
from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.hooks import add_hooks_of
from flowq.engine.flow.spawned import digest_of, failure_of_flow, result_of_flow, retry_flow, root_cause
from flowq.errors import InvalidValue, RetryOutOfTurn, SignalTimedOut, SpawnedTooDeep
from flowq.model.failure import unpacked
from flowq.model.names import depth_of, spawned_id
from flowq.model.outcome import Claim, Suspend, Wait
from flowq.model.spec import FlowSpec
from flowq.store.store import Store
from flowq.store.suspensions import Memory, Spawned, Spawner, Suspensions

# A pipeline that spawns itself without end is found here, not when the server is full.
DEPTH_MAX = 16
# A sleep that is shorter than suspending and beginning again costs is slept in place.
_SLEPT_HERE_MS = 100
# Waits that begin together begin within this time of one another, and so many turns of the loop: on a busy machine the time is
# over while an answer is still on its way through a `gather` to the function, which may end with it.
_QUIET_SECONDS = 0.005
_QUIET_TURNS = 20
# Each is remembered for as long as the stage lives.
_TIMERS_MAX = 1_000
_REFUSAL_CHARS_MAX = 200

NO_DEFAULT: Any = object()


class Suspended(BaseException):
    """What a stage's task is cancelled with when the stage is suspended."""


class Waits:
    """The waits of one run.

    Args:
        store, storage: where flows and large results are.
        claim: the run.
        stage: the stage's name.
        task: the task in which its function runs.
        on_suspend: called when the run gives up its slot, before the task is cancelled; False: it is over already.
        on_over: called when the run is found to be over: cancelled, or taken over.
    """

    def __init__(
        self,
        store: Store,
        storage: Storage | None,
        claim: Claim,
        stage: str,
        task: asyncio.Task[Any],
        on_suspend: Callable[[], bool],
        on_over: Callable[[], None],
    ) -> None:
        self._store, self._storage, self._suspensions = store, storage, Suspensions(store)
        self._claim, self._stage = claim, stage
        self._task = task
        self._on_suspend, self._on_over = on_suspend, on_over
        self._begun: Counter[str] = Counter()
        self._memory: Memory | None = None
        self._remembering = asyncio.Lock()
        self._read_at = 0.0
        self._waits: list[Wait] = []
        self._seen: list[str] = []
        self._never: set[asyncio.Future[None]] = set()
        self._busy = 0
        self._is_suspending = False
        self._timer: asyncio.Handle | None = None
        self._is_closed = False

    # Each is numbered when it is called, not when it is awaited: in every run the same ones have the same numbers.

    async def sleep(self, number: int, wanted_ms: int) -> None:
        """Waits for a time to pass."""
        timer = f"#{number}"
        with self._asking():
            end = (await self._remembered()).ends.get(timer)
        left_ms = wanted_ms if end is None else end - self._now()
        if end is None and wanted_ms > _SLEPT_HERE_MS:
            await self._until_resumed(Wait("sleep", "", timer, wanted_ms))
        if left_ms > _SLEPT_HERE_MS:
            await self._until_resumed(Wait("sleep", "", timer))
        if left_ms > 0:
            await asyncio.sleep(left_ms / 1000)

    async def signal(
        self, number: int, name: str, read: Callable[[Any], Any], timeout_ms: int | None, default: Any = NO_DEFAULT
    ) -> Any:
        """Waits for a signal.

        Args:
            number: from `number`.
            name: the signal's.
            read: makes the value of its plain data, or raises InvalidValue.
            timeout_ms: for how long.
            default: what to return after that; NO_DEFAULT: nothing, it is an error.

        Raises:
            SignalTimedOut: it did not come in time.
        """
        timer, refused, sent = f"{name}#{number}" if timeout_ms is not None else "", "", None
        with self._asking():
            end = (await self._remembered()).ends.get(timer)
            if end != 0:
                sent = await self._suspensions.signal_of(self._claim.flow_id, name)
        if sent is not None:
            try:
                return read(unpacked(sent))
            except InvalidValue as error:  # whoever sent it may send another
                refused = str(error)[:_REFUSAL_CHARS_MAX]
        if end is not None and end <= self._now():
            self._seen.append(timer)
            if default is NO_DEFAULT:
                raise SignalTimedOut(self._stage, name)
            return default
        return await self._until_resumed(Wait("signal", name, timer, timeout_ms or 0, refused))

    async def spawn(self, number: int, spec: FlowSpec[Any], key: str | None) -> Any:
        """Adds a flow, or finds it again, waits for its end, and gives its result.

        Raises:
            FlowFailed, FlowCancelled: it did not complete.
            FlowConflict: another flow with other inputs has this key.
            SpawnedTooDeep: too many flows stand above it.
        """
        child = spawned_id(self._claim.flow_id, self._stage, digest_of(spec, key, number))
        if depth_of(child) > DEPTH_MAX:
            raise SpawnedTooDeep(self._stage, DEPTH_MAX)
        with self._asking():
            memory = await self._remembered()
            spawner = Spawner(*self._claim.run, memory.run, self._claim.attempt)
            spawnable, awaited = self._spawnable(spec, child, memory), ""
            while not awaited:
                found = await self._suspensions.spawn(child, spawnable, spawner)
                if found is None:
                    self._on_over()
                    raise asyncio.CancelledError
                if found.status == "c":
                    return await result_of_flow(self._store, self._storage, child, found.plan, spec.result_type)
                awaited = await self._awaited(child, found, spawner, spec)
        return await self._until_resumed(Wait("flow", awaited))

    def number(self, kind: str) -> int:
        """How many of this kind this run has begun before."""
        number = self._begun[kind]
        self._begun[kind] += 1
        if kind.startswith("timer") and number >= _TIMERS_MAX:
            raise InvalidValue(f"waits of stage {self._stage}", number, f"at most {_TIMERS_MAX:,} that end at a time")
        return number

    @property
    def outcome(self) -> Suspend:
        """What the worker reports when the run was suspended."""
        return Suspend(*self._claim.run, tuple(self._waits), tuple(self._seen))

    def close(self) -> None:
        """The function has ended: nothing of it waits any more, nor what it has left behind in a task."""
        self._is_closed = True
        # Both know the run, which knows this, and so does a timer: no circle is left behind for the garbage collector.
        self._on_suspend = self._on_over = _too_late
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for future in self._never:
            future.cancel()

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _awaited(self, child: str, found: Spawned, spawner: Spawner, spec: FlowSpec[Any]) -> str:
        """The flow to wait for, after one that had ended was made to run again; '': it has changed, or this run is over."""
        if found.status == "z" and not found.is_of_this_attempt:
            # The flow was retried before what stood beneath it was cancelled; which may have completed meanwhile.
            await finish_closing(self._store, child)
            return ""
        if found.status not in ("f", "k"):
            return child
        try:
            is_settled = found.is_of_this_attempt
            word = "nothing" if is_settled else await retry_flow(self._store, child, spawner, spec.options.timing)
        except RetryOutOfTurn as early:  # what undoes it has not ended: it is run again after that
            await add_hooks_of(self._store, child)
            return early.other
        if word == "nothing":
            raise root_cause(await failure_of_flow(self._store, child))
        return child if word == "retried" else ""

    def _spawnable(self, spec: FlowSpec[Any], child: str, memory: Memory) -> FlowSpec[Any]:
        given = spec.options
        options = msgspec.structs.replace(
            given, id=child, tenant=given.tenant or memory.tenant, priority=given.priority or self._claim.priority,
            cache=given.cache and not memory.is_fresh,
        )  # fmt: skip
        return FlowSpec(
            spec.plan, spec.literals, spec.inputs,
            output_literal=spec.output_literal, result_type=spec.result_type, options=options,
        )  # fmt: skip

    @contextlib.contextmanager
    def _asking(self) -> Generator[None]:
        """The stage is not suspended while it asks the server whether it has to wait at all."""
        self._refuse_after_the_end()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._waits and not self._is_closed:
                self._settle()

    async def _remembered(self) -> Memory:
        async with self._remembering:
            if self._memory is None:
                self._memory = await self._suspensions.memory(self._claim.flow_id, self._claim.index)
                self._claim.suspensions += self._memory.suspensions
                self._read_at = time.monotonic()
            return self._memory

    def _now(self) -> int:
        """The server's time, milliseconds since 1970."""
        assert self._memory is not None
        return self._memory.now + round((time.monotonic() - self._read_at) * 1000)

    async def _until_resumed(self, wait: Wait) -> NoReturn:
        self._refuse_after_the_end()
        self._waits.append(wait)
        self._settle()
        never = asyncio.get_running_loop().create_future()
        self._never.add(never)
        try:
            await never
        finally:
            # Cut short by the stage itself, say by a timeout of its own: then it does not wait for this.
            if not self._is_suspending:
                self._waits.remove(wait)
        raise AssertionError("nobody sets this future")

    def _refuse_after_the_end(self) -> None:
        if self._is_closed:
            raise asyncio.CancelledError

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._suspend, _QUIET_TURNS)

    def _suspend(self, turns: int) -> None:
        if turns:
            self._timer = asyncio.get_running_loop().call_soon(self._suspend, turns - 1)
        elif self._waits and not self._busy:
            self._is_suspending = self._on_suspend()
            # A run that is over already, and yet waits, has caught its cancellation, say in a library: it is told again.
            self._task.cancel(*([Suspended] if self._is_suspending else []))


def _too_late() -> bool:
    """What the run answers when it is over."""
    return False
