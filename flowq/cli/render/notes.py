"""What the last column says of a stage: why it waits, what it is doing, what it made, why it failed. One sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

from flowq.cli.documents import json_text
from flowq.cli.render.clean import clean
from flowq.cli.render.ink import crop
from flowq.cli.render.items import counts, counts_say_it_all
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_bytes, shown_seconds
from flowq.model.artifact import Artifact
from flowq.model.snapshot import FlowSnapshot, StageSnapshot

_NAMES_MAX = 4
_RESULT_CELLS_MAX = 60


class Note(NamedTuple):
    """A sentence about a stage.

    Attributes:
        text: the sentence.
        style: its colour.
    """

    text: str
    style: str = ""


class Notes:
    """Makes the notes of one flow.

    Attributes:
        folder: the beginning that the keys of all its artifacts share; shown once, below the table.
    """

    def __init__(self, snapshot: FlowSnapshot, screen: Screen) -> None:
        self._snapshot = snapshot
        self._screen = screen
        self._state_of = {stage.name: stage.state for stage in snapshot.graph}
        self.folder = _folder(snapshot)

    def of(self, stage: StageSnapshot) -> Note:
        """The note of one stage."""
        parts = [part for part in (self._after(stage), counts(stage, self._screen), self._main(stage), _crashes(stage)) if part]
        return Note(clean(self._screen.dot.join(parts)), _style(stage))

    def _main(self, stage: StageSnapshot) -> str:
        match stage.state:
            case "failed":
                return self._failed(stage)
            case "running":
                again = f"try {stage.attempt} after {stage.failure.line}" if stage.failure and stage.attempt > 1 else ""
                doing = stage.reason.sentence if stage.reason else stage.message
                return self._screen.dot.join(part for part in (clean(doing), clean(again)) if part)
            case "completed":
                made = self._made(stage) if stage.items is None else ""
                return self._screen.dot.join(part for part in (shown_reused(stage, self._snapshot.id), made) if part)
            case "skipped":
                return "skipped: its condition does not hold"
            case "cancelled":
                return stage.reason.sentence if stage.reason else stage.state
            case "suspended" if counts_say_it_all(stage):
                return ""
            case _:
                return self._why(stage)

    def _after(self, stage: StageSnapshot) -> str:
        """A join is drawn apart from what it waits for, so it says what that is; while it waits, `_why` does."""
        if len(stage.children) < 2 or stage.state == "blocked":
            return ""
        return "after " + _names(stage.children)

    def _why(self, stage: StageSnapshot) -> str:
        waiting = [child for child in stage.children if self._state_of.get(child) not in ("completed", "skipped")]
        if stage.reason is not None and stage.reason.code == "children" and stage.reason.on:
            waiting = list(stage.reason.on)  # without failed children that it tolerates
        if stage.state == "blocked" and waiting and (stage.reason is None or stage.reason.code == "children"):
            return "waits for " + _names(waiting)
        sentence = stage.reason.sentence if stage.reason else stage.state
        if stage.state == "scheduled" and stage.failure is not None:
            due_in = max(0, (stage.ready_at or 0) - self._snapshot.at) / 1000
            when = f"try {stage.attempt + 1} in {shown_seconds(due_in)}" if due_in else "to be tried again"
            return f"{when} after {stage.failure.line}"
        return sentence

    def _failed(self, stage: StageSnapshot) -> str:
        if stage.failure is None:
            return "failed"
        # The other kinds have an error of their own, whose name says the same.
        is_news = stage.failure.kind == "unrecoverable" and stage.failure.error_type != "Unrecoverable"
        return ("tolerated: " if stage.is_tolerated else "unrecoverable: " if is_news else "") + stage.failure.line

    def _made(self, stage: StageSnapshot) -> str:
        if stage.artifacts:
            shown = [self._artifact(artifact) for artifact in stage.artifacts[:3]]
            more = len(stage.artifacts) - len(shown)
            return ", ".join(shown) + (f", and {more} more" if more else "")
        if stage.result is None:
            return ""
        return crop(json_text(stage.result, pretty=False), _RESULT_CELLS_MAX, self._screen.ellipsis)

    def _artifact(self, artifact: Artifact) -> str:
        key = artifact.key
        if self.folder and key.startswith(self.folder):
            key = key[len(self.folder) :]
        return clean(key) + (f" ({shown_bytes(artifact.size)})" if artifact.size >= 0 else "")


def shown_reused(stage: StageSnapshot, flow_id: str) -> str:
    """Whose result a stage of a flow has; empty: its own."""
    if stage.reused is None:
        return ""
    if (stage.reused.flow, stage.reused.stage) == (flow_id, stage.name):
        return "kept from an earlier run"
    whose = "this flow" if stage.reused.flow == flow_id else f"flow {stage.reused.flow}"
    name = f" ({stage.reused.stage})" if stage.reused.stage != stage.name else ""
    return f"reused from {whose}{name}"


def _folder(snapshot: FlowSnapshot) -> str:
    part = quote(snapshot.id, safe="", errors="replace") + "/"
    for stage in snapshot.graph:
        for artifact in stage.artifacts:
            head, found, _ = artifact.key.partition(part)
            if found and "://" not in head:
                return head + part
    return ""


def _crashes(stage: StageSnapshot) -> str:
    if not stage.crashes or (stage.failure is not None and stage.failure.kind == "poisoned"):
        return ""
    return f"crashed {stage.crashes}x"


def _style(stage: StageSnapshot) -> str:
    return {"failed": "bad", "running": "", "scheduled": "retry", "ready": "wait", "completed": ""}.get(stage.state, "dim")


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_MAX])
    return shown if len(names) <= _NAMES_MAX else f"{shown} and {len(names) - _NAMES_MAX:,} more"
