"""What runs logged and used, on its way to the store: with their outcome, and at most once a second before it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from flowq.engine.exchange.afterwards import key_of
from flowq.engine.run.context import StageContext
from flowq.engine.run.stage_run import RunKey
from flowq.errors import FlowqError
from flowq.model.outcome import Claim, Note, Outcome, opaque
from flowq.store.store import Store
from flowq.store.views import Views

_LOG_SECONDS = 1.0


class _Logging(NamedTuple):
    claim: Claim
    context: StageContext


class Notes:
    """The notes of one conversation. Nothing here costs anything while stages neither log nor meter."""

    def __init__(self) -> None:
        self._logging: dict[RunKey, _Logging] = {}
        self._last: dict[RunKey, Note] = {}
        self._logs_due_at = 0.0

    def hear(self, claim: Claim, context: StageContext) -> None:
        """A run has logged something."""
        self._logging[claim.run] = _Logging(claim, context)

    def take_last(self, outcome: Outcome, note: Note | None) -> None:
        """A run has ended; its note goes with its outcome."""
        if self._logging:
            self._logging.pop(key_of(outcome), None)
        if note is not None:
            self._last[key_of(outcome)] = note

    @property
    def due_in(self) -> float | None:
        """Seconds until logs are to be sent; None: there are none."""
        return max(0.0, self._logs_due_at - time.monotonic()) if self._logging else None

    def beside(self, outcomes: Sequence[Outcome]) -> list[Note]:
        """The notes to send with these outcomes, and the logs that are due."""
        found: list[Note] = []
        if self._last:
            for position, outcome in enumerate(outcomes, 1):
                if (note := self._last.get(key_of(outcome))) is not None:
                    found.append(msgspec.structs.replace(note, position=position))
        if self.due_in == 0.0:
            found += [Note(*claim.run, log=_log_of(context)) for claim, context in self._logging.values()]
            self._logging.clear()
            self._logs_due_at = time.monotonic() + _LOG_SECONDS
        return found

    def sent(self, outcomes: Sequence[Outcome]) -> None:
        """These outcomes were judged: their notes with them."""
        if self._last:
            for outcome in outcomes:
                self._last.pop(key_of(outcome), None)

    def spare_log(self, outcome: Outcome) -> None:
        """What this run used may be what can't be sent: only its log is kept."""
        if (note := self._last.get(key_of(outcome))) is not None:
            self._last[key_of(outcome)] = msgspec.structs.replace(note, amounts=False)


async def last_note(store: Store, claim: Claim, context: StageContext) -> Note | None:
    """What is to be told of a run beside its outcome, if it has notes; None: its flow is gone."""
    whose = "|"
    if context.amounts:
        try:
            header = await Views(store).header(claim.flow_id)
            whose = f"{header.pipeline}|{header.tenant}"
        except FlowqError:  # gone or unreadable: what becomes of the outcome says so
            return None
    amounts = tuple(part for pair in context.amounts.items() for part in pair)
    return Note(*claim.run, log=_log_of(context), amounts=amounts or False, whose=whose)


def _log_of(context: StageContext) -> msgspec.Raw:
    return opaque(context.log.text if context.log is not None else b"")
