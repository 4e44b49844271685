"""A worker's conversation with one partition: reports what ended, asks for work, over two lines at once.

Outcomes that pile up while a call is in flight make the next batch, so load makes the conversation cheaper by itself:
there is no timer and nothing to tune. An idle worker parks: the server wakes it when there is work, and because a wake-up
is only a hint, it asks by itself once a second; see `room.py` for who asks less often.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from flowq.engine.capacity.taken import Taken
from flowq.engine.duties.hints import Hints
from flowq.engine.exchange.afterwards import Afterwards
from flowq.engine.exchange.gates import Gates
from flowq.engine.exchange.latest_progress import LatestProgress
from flowq.engine.exchange.lines import Line, Lines
from flowq.engine.exchange.listener import Listener, Room
from flowq.engine.exchange.notes import Notes
from flowq.engine.exchange.parking import Parking
from flowq.engine.exchange.unstorable import Unstorable
from flowq.engine.run.context import StageContext
from flowq.engine.run.stage_run import RunKey
from flowq.errors import CorruptState, ValueNotStorable
from flowq.model.exchanged import Exchanged
from flowq.model.outcome import Claim, Note, Outcome, Progress, Release
from flowq.store.store import Store
from flowq.store.wants import Wants

log = logging.getLogger("flowq.engine")

# Two calls in flight, at most 50 stages each: one is answered while the other's stages run (measured best of 1…4 × 10…500). Each
# takes its share of what may run: calls of 46 stages and of 4 wait for each other, and ran a fifth fewer than calls of 25.
LINES = 2
BATCH = 50
_POLL_SECONDS = 1.0


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
        hints: told what there is for duties.
        batch: how many stages a call claims at most.
    """

    def __init__(
        self, store: Store, tag: str, holder: str, room: Room, listener: Listener, on_expired: Callable[[], None],
        gates: Gates | None = None, batch: int = BATCH, hints: Hints | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._tag = tag
        self._holder = holder
        self._room = room
        self._listener = listener
        self._on_expired = on_expired
        self._gates = gates
        self._hints = hints or Hints([tag])
        self._batch = batch
        self._outcomes: list[Outcome] = []
        self._progress = LatestProgress()
        self._notes = Notes()
        self._afterwards = Afterwards()
        self._lines = Lines(LINES)
        self._parking = Parking()
        self._idle_until = 0.0
        self._news_due_at = 0.0
        self._claims_on, self._is_over, self._gives_back = True, False, False
        self._in_flight, self._asking, self._wakes = 0, 0, 0
        self._claims_are_in = asyncio.Event()
        self._claims_are_in.set()
        self._pause: float | None = None  # a gate was shut: nobody tells when it opens, so it is asked again so soon
        # How many outcomes at the front were part of a call that met damaged data; and when to claim again after one did.
        self._doubtful = 0
        self._claims_again_at = 0.0
        self._unstorable = Unstorable()
        # What was cancelled while claims were under way: it may be among them, if their reply was overtaken by one that says so.
        self._overtaken: set[RunKey] = set()

    # ── called by the worker, in its loop ────────────────────────────────────────────────────────────────────────

    def report(self, outcome: Outcome, note: Note | None = None, then: Callable[[], None] | None = None) -> None:
        """Reports the outcome with the next call, and what its run logged and used; `then` is called when it was accepted."""
        self._outcomes.append(outcome)
        self._afterwards.note(outcome, then)
        self._notes.take_last(outcome, note)
        self._progress.forget(outcome)
        self._lines.stir()

    def report_progress(self, progress: Progress) -> None:
        """Keeps the latest progress of each stage; at most ten calls a second carry some."""
        self._progress.keep(progress)
        self._lines.stir()

    def hear_log(self, claim: Claim, context: StageContext) -> None:
        """A run has logged something; at most one call a second carries such."""
        self._notes.hear(claim, context)
        self._lines.stir()

    def wake(self) -> None:
        """There may be work, or a stage that runs here was cancelled."""
        self._wakes += 1
        self._news_due_at = 0.0
        self.take_turn()

    def take_turn(self) -> None:
        """There is room again."""
        self._idle_until = 0.0
        self._lines.stir()

    def stop_claiming(self) -> None:
        """Only reports from now on."""
        self._claims_on = False
        self._lines.stir()

    async def until_claims_are_in(self) -> None:
        """Waits for the calls under way that may bring claims."""
        await self._claims_are_in.wait()

    def give_claims_back(self) -> None:
        """Runs nothing any more that is claimed from now on."""
        self._gives_back = True

    def end(self) -> None:
        """Ends when all that was reported has been sent."""
        self._gives_back = True
        self._is_over = True
        self.stop_claiming()
        self._lines.stir_all()

    async def hold(self) -> None:
        """Talks until `end`.

        Raises:
            ServerError: the server can't be used any more.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                for line in self._lines.all:
                    tasks.create_task(self._hold_line(line))
        except BaseExceptionGroup as group:  # both lines talk to one server: what one met says it all
            raise group.exceptions[0] from None

    # ── one line ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _hold_line(self, line: Line) -> None:
        while True:
            await self._something_to_say(line)
            if self._is_over and not self._outcomes:
                return
            line.is_talking = True
            if any(due_in is not None for due_in in (self._progress.due_in, self._notes.due_in)):
                self._lines.stir()  # should this call take long, another line tells it
            is_alive = await self._speak(line)
            line.is_talking = False
            if not is_alive:
                return

    async def _something_to_say(self, line: Line) -> None:
        while not self._outcomes and not self._is_over:
            now = time.monotonic()
            # Who can't claim still asks whether what it runs was cancelled: a wake-up that says so may be lost.
            can_claim = self._claims_on and now >= self._idle_until
            # While the other line asks, this one waits: two empty-handed questions at once would only cost.
            may_ask = not (self._in_flight or line.number)
            if may_ask and ((can_claim and self._room.admits(self._tag)) or now >= self._news_due_at):
                return
            due_in = [seconds for seconds in (self._progress.due_in, self._notes.due_in) if seconds is not None]
            if any(seconds <= 0 for seconds in due_in):
                return
            waits = [_POLL_SECONDS, *due_in]
            if line.number == 0:
                waits += [due_at - now for due_at in (self._idle_until, self._news_due_at) if due_at > now]
            await line.until_stirred(min(waits))

    async def _speak(self, line: Line) -> bool:
        """One exchange; False: the holder is expired."""
        most = 1 if self._doubtful else BATCH * 4
        outcomes, self._outcomes = self._outcomes[:most], self._outcomes[most:]
        progress = self._progress.take(is_last=self._is_over)
        may_claim = self._claims_on and not self._doubtful and time.monotonic() >= self._claims_again_at
        taken = self._room.take(self._batch, self._tag) if may_claim else Taken()
        line.seq += 1
        self._note_under_way(taken.capacity, 1)
        wakes = self._wakes
        answer: Exchanged | None = None
        try:
            self._doubtful = max(0, self._doubtful - len(outcomes))
            answer = await self._exchange(line, outcomes, progress, taken)
            self._notes.sent(outcomes)
        except (CorruptState, ValueNotStorable) as damage:
            self._set_apart(outcomes, taken.capacity, damage)
            return True
        finally:
            has_more = self._room.give_back(taken, answer.claims if answer else [])
            self._note_under_way(taken.capacity, -1)
        if answer is None:
            self._on_expired()
            return False
        # Fewer than it had room for: there was no more, and the server has parked it. A wake-up may overtake the answer.
        # No room at all, though it claims: other processes of this host have the slots; what ends here asks by itself.
        if wakes == self._wakes:  # later than it claims: who has to wait a moment for room asks for both at once
            self._news_due_at = time.monotonic() + 1.1 * self._room.patience * _POLL_SECONDS
        has_got_all = len(answer.claims) < max(1, taken.capacity) and not has_more
        self._heard(answer, outcomes, is_idle=has_got_all and wakes == self._wakes)
        return True

    def _note_under_way(self, capacity: int, change: int) -> None:
        self._in_flight += change
        self._asking += change * bool(capacity)
        (self._claims_are_in.clear if self._asking else self._claims_are_in.set)()
        if not self._in_flight:
            self._lines.stir()

    async def _exchange(self, line: Line, outcomes: list[Outcome], progress: list[Progress], taken: Taken) -> Exchanged | None:
        nonce, notes = secrets.token_urlsafe(8), self._notes.beside(outcomes)

        async def call(wants: Sequence[Wants], capacity: int, permits: Mapping[str, int]) -> Exchanged | None:
            wakes, parks = self._wakes, capacity > 0 and self._parking.is_needed(wants, self._wakes)
            answer = await self._store.exchange(
                self._tag, self._holder, line.number, line.seq, nonce, outcomes, progress,
                wants, capacity, parks=parks, notes=notes, permits=permits, looks=self._hints.is_due(self._tag),
            )  # fmt: skip
            if parks and answer is not None and len(answer.claims) < capacity:
                self._parking.told(wants, wakes)
            return answer

        if self._gates is None:
            return await call(taken.wants, taken.capacity, {})
        answer, self._pause = await self._gates.through(self._tag, taken, call)
        return answer

    def _set_apart(self, outcomes: list[Outcome], capacity: int, damage: CorruptState | ValueNotStorable) -> None:
        """A call met damaged data, where nothing is written, or it could not be packed. So each part is tried alone."""
        if len(outcomes) > 1 or (outcomes and capacity):
            self._try_alone(outcomes)
        elif outcomes:
            self._refused(outcomes[0], damage)
        else:
            log.error("nothing can be claimed for a second: %s", damage)
            self._claims_again_at = self._idle_until = time.monotonic() + _POLL_SECONDS
            self._room.leave(self._tag)

    def _try_alone(self, outcomes: Sequence[Outcome]) -> None:
        self._outcomes = [*outcomes, *self._outcomes]
        self._doubtful += len(outcomes)
        self._lines.stir()

    def _refused(self, outcome: Outcome, damage: CorruptState | ValueNotStorable) -> None:
        if isinstance(damage, ValueNotStorable):
            self._notes.spare_log(outcome)
        instead = self._unstorable.instead_of(outcome, damage)
        if instead is outcome:
            asyncio.get_running_loop().call_later(_POLL_SECONDS, self._try_alone, [outcome])
        else:
            self._try_alone([instead])

    def _heard(self, answer: Exchanged, outcomes: list[Outcome], *, is_idle: bool) -> None:
        for verdict in answer.verdicts:
            if verdict.word not in ("replayed", "late"):
                self._listener.refused(outcomes[verdict.position], verdict.word, verdict.holder)
        self._afterwards.heard(outcomes, answer)
        self._hints.tell(self._tag, answer.house)
        for run in answer.cancelled:
            self._listener.cancel(run)
            if self._asking:
                self._overtaken.add(run)
        for member in answer.closing:
            self._listener.close(member)
        for claim in answer.claims:
            self._begin(claim)
        if not self._asking:
            self._overtaken.clear()
        self._idle_until = 0.0
        if is_idle:
            soon, poll = self._pause, self._room.patience * _POLL_SECONDS
            until_due = (answer.next_due_at - answer.now) / 1000 if answer.next_due_at else poll
            if soon is None or until_due > 0 or answer.claims:  # else more is behind what was looked at, and that is held back
                soon = min(poll if soon is None else soon, max(0.001, until_due))
            self._idle_until = time.monotonic() + soon
            self._room.leave(self._tag)

    def _begin(self, claim: Claim) -> None:
        if (is_valid := claim.run not in self._overtaken) and not self._gives_back:
            return self._listener.start(claim)
        if is_valid:
            self.report(Release(*claim.run))
        self._room.ended(claim)  # it counted as used from when it was claimed
        return self._gates.ended(claim) if self._gates is not None else None
