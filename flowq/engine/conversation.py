"""A worker's conversation with one partition: reports what ended, asks for work, over two lines at once.

Outcomes that pile up while a call is in flight make the next batch, so load makes the conversation cheaper by itself:
there is no timer and nothing to tune. An idle worker parks: the server wakes it when there is work, and because a wake-up
is only a hint, it asks by itself once a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from flowq.engine.gates import DENIED_SECONDS, Gates, Opened
from flowq.errors import CorruptState
from flowq.model.outcome import Claim, Exchanged, Fail, Outcome, Progress
from flowq.store.store import Store, Wants

log = logging.getLogger("flowq.engine")

# Two calls in flight, at most 50 stages each: one is answered while the other's stages run (measured best of 1…4 × 10…500).
LINES = 2
BATCH = 50
_POLL_SECONDS = 1.0
_PROGRESS_SECONDS = 0.1


class Room(Protocol):
    """What a worker has room for, asked before each call."""

    def take(self, most: int, partition: str) -> tuple[int, list[Wants]]:
        """Reserves room: how many stages at most, and of which routes. (0, []): none, or it is the turn of another partition."""
        ...

    def give_back(self, taken: int, wants: list[Wants], claims: list[Claim]) -> None:
        """Gives back what the claims did not use."""
        ...

    def admits(self, partition: str) -> bool:
        """Whether there is room for a stage of this partition; if not, it is noted that it waits for some."""
        ...


class Listener(Protocol):
    """Who runs what the conversation claims."""

    def start(self, claim: Claim) -> None:
        """Runs the stage."""
        ...

    def cancel(self, flow_id: str, index: int, fence: int) -> None:
        """Ends a stage that runs here and whose flow was cancelled."""
        ...

    def close(self, flow_id: str, stages: int) -> None:
        """Ends what else runs of a flow that has failed at once."""
        ...

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted: another run holds the stage."""
        ...


class _Line(msgspec.Struct):
    number: int
    seq: int = 0


class Conversation:
    """One holder's exchanges with one partition.

    Args:
        store: the store.
        tag: the partition.
        holder: this process's id.
        room: what it has room for.
        listener: who runs the stages.
        on_expired: called when the server no longer knows the holder: its stages belong to others.
        gates: what else a claim needs permits for.
    """

    def __init__(
        self, store: Store, tag: str, holder: str, room: Room, listener: Listener, on_expired: Callable[[], None],
        gates: Gates | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._tag = tag
        self._holder = holder
        self._room = room
        self._listener = listener
        self._on_expired = on_expired
        self._gates = gates
        self._outcomes: list[Outcome] = []
        self._progress: dict[tuple[str, int], Progress] = {}
        self._progress_due_at = 0.0
        self._stirred = asyncio.Event()
        self._idle_until = 0.0
        self._news_due_at = 0.0
        self._claims_on = True
        self._is_over = False
        self._in_flight = 0
        self._wakes = 0
        # A gate was shut: nobody tells when it opens, so it is asked again soon.
        self._is_denied = False
        # How many outcomes at the front were part of a call that met damaged data; and when to claim again after one did.
        self._doubtful = 0
        self._claims_again_at = 0.0

    # ── called by the worker, in its loop ────────────────────────────────────────────────────────────────────────

    def report(self, outcome: Outcome) -> None:
        """Reports the outcome with the next call."""
        self._outcomes.append(outcome)
        self._progress.pop((outcome.flow_id, outcome.index), None)
        self._stirred.set()

    def report_progress(self, progress: Progress) -> None:
        """Keeps the latest progress of each stage; at most ten calls a second carry some."""
        self._progress[progress.flow_id, progress.index] = progress
        self._stirred.set()

    def wake(self) -> None:
        """There may be work, or a stage that runs here was cancelled."""
        self._wakes += 1
        self._idle_until = self._news_due_at = 0.0
        self._stirred.set()

    def stir(self) -> None:
        """There is room again."""
        self._stirred.set()

    def stop_claiming(self) -> None:
        """Only reports from now on."""
        self._claims_on = False
        self._stirred.set()

    def end(self) -> None:
        """Ends when all that was reported has been sent."""
        self._is_over = True
        self._claims_on = False
        self._stirred.set()

    async def hold(self) -> None:
        """Talks until `end`.

        Raises:
            ServerError: the server can't be used any more.
        """
        try:
            async with asyncio.TaskGroup() as lines:
                for number in range(LINES):
                    lines.create_task(self._hold_line(_Line(number)))
        except BaseExceptionGroup as group:  # both lines talk to one server: what one met says it all
            raise group.exceptions[0] from None

    # ── one line ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _hold_line(self, line: _Line) -> None:
        while True:
            await self._something_to_say(line)
            if self._is_over and not self._outcomes:
                return
            if not await self._speak(line):
                return

    async def _something_to_say(self, line: _Line) -> None:
        while not self._outcomes and not self._is_over:
            now = time.monotonic()
            # Who can't claim still asks whether what it runs was cancelled: a wake-up that says so may be lost.
            can_claim = self._claims_on and now >= self._idle_until
            if self._may_ask(line) and ((can_claim and self._room.admits(self._tag)) or now >= self._news_due_at):
                return
            waits = [_POLL_SECONDS]
            if self._progress:
                if now >= self._progress_due_at:
                    return
                waits.append(self._progress_due_at - now)
            if line.number == 0:
                waits += [due_at - now for due_at in (self._idle_until, self._news_due_at) if due_at > now]
            self._stirred.clear()
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same moment as the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(waits)):
                    await self._stirred.wait()

    def _may_ask(self, line: _Line) -> bool:
        # While the other line asks, this one waits: two empty-handed questions at once would only cost.
        return not (self._in_flight or line.number)

    async def _speak(self, line: _Line) -> bool:
        """One exchange; False: the holder is expired."""
        most = 1 if self._doubtful else BATCH * 4
        outcomes, self._outcomes = self._outcomes[:most], self._outcomes[most:]
        progress = self._take_progress()
        may_claim = self._claims_on and not self._doubtful and time.monotonic() >= self._claims_again_at
        is_refused = may_claim and not self._room.admits(self._tag)  # it is told when it is its turn
        capacity, wants = self._room.take(BATCH, self._tag) if may_claim else (0, [])
        line.seq += 1
        self._in_flight += 1
        wakes = self._wakes
        answer: Exchanged | None = None
        try:
            self._doubtful = max(0, self._doubtful - len(outcomes))
            answer = await self._exchange(line, outcomes, progress, wants, capacity)
        except CorruptState as damage:
            self._set_apart(outcomes, capacity, damage)
            return True
        finally:
            self._in_flight -= 1
            self._room.give_back(capacity, wants, answer.claims if answer else [])
            if self._in_flight == 0:
                self._stirred.set()
        if answer is None:
            self._on_expired()
            return False
        # Fewer than it had room for: there was no more, and the server has parked it. A wake-up may overtake the answer.
        # No room at all, though it claims: other processes of this host have the slots; what ends here asks by itself.
        if wakes == self._wakes:
            self._news_due_at = time.monotonic() + _POLL_SECONDS
        is_idle = (len(answer.claims) < capacity or not capacity) and not is_refused and wakes == self._wakes
        self._heard(answer, outcomes, is_idle=is_idle)
        return True

    async def _exchange(
        self, line: _Line, outcomes: list[Outcome], progress: list[Progress], wants: Sequence[Wants], capacity: int
    ) -> Exchanged | None:
        call = (self._tag, self._holder, line.number, line.seq, secrets.token_urlsafe(8), outcomes, progress)
        self._is_denied = False
        if self._gates is None or not self._gates.are_there:
            answer = await self._store.exchange(*call, wants, capacity, parks=capacity > 0)
            if answer is not None and answer.gated and self._gates is not None:
                self._gates.close(self._tag, Opened(wants), answer)
            return answer
        opened = await self._gates.open(self._tag, capacity, wants) if capacity else Opened(wants)
        room = capacity if opened.wants else 0
        answer = None
        try:
            answer = await self._store.exchange(*call, opened.wants, room, parks=room > 0, permits=opened.of_tenants)
        finally:
            self._gates.close(self._tag, opened, answer)
        self._is_denied = opened.is_denied
        return answer

    def _set_apart(self, outcomes: list[Outcome], capacity: int, damage: CorruptState) -> None:
        """A call met damaged data. Nothing of it was written: scripts write at their end only. So each part is tried alone."""
        if len(outcomes) > 1 or (outcomes and capacity):
            self._outcomes = outcomes + self._outcomes
            self._doubtful += len(outcomes)
        elif outcomes:
            log.error("what stage %d of flow %s did can't be stored: %s", outcomes[0].index, outcomes[0].flow_id, damage)
        else:
            log.error("nothing can be claimed for a second: %s", damage)
            self._claims_again_at = self._idle_until = time.monotonic() + _POLL_SECONDS

    def _take_progress(self) -> list[Progress]:
        now = time.monotonic()
        if not self._progress or (now < self._progress_due_at and not self._is_over):
            return []
        self._progress_due_at = now + _PROGRESS_SECONDS
        progress, self._progress = list(self._progress.values()), {}
        return progress

    def _heard(self, answer: Exchanged, outcomes: list[Outcome], *, is_idle: bool) -> None:
        for verdict in answer.verdicts:
            if verdict.word != "replayed":
                self._listener.refused(outcomes[verdict.position], verdict.word, verdict.holder)
        for flow_id, index, fence in answer.cancelled:
            self._listener.cancel(flow_id, index, fence)
        for outcome in outcomes:
            if isinstance(outcome, Fail) and outcome.closes:
                self._listener.close(outcome.flow_id, outcome.closes)
        for claim in answer.claims:
            self._listener.start(claim)
        self._idle_until = 0.0
        if is_idle:
            until_due = (answer.next_due_at - answer.now) / 1000 if answer.next_due_at else _POLL_SECONDS
            most = DENIED_SECONDS if self._is_denied else 0.0 if answer.gated else _POLL_SECONDS
            self._idle_until = time.monotonic() + min(most, max(0.001, until_due))
