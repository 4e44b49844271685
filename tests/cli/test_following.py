"""The lines of `watch` where there is no terminal: which events are worth one."""

from __future__ import annotations

import io
import json

import pytest

from flowq.cli.following import _writer
from flowq.cli.render.events import event_line
from flowq.cli.render.screen import Screen
from flowq.model.event import Event
from flowq.model.snapshot import Reason

BUSY = Reason("no_worker", "no worker serves queue gpu", ("gpu",))
BLOCKED = Reason("children", "waits for encode", ("encode",))
HELD = [
    Event(flow_id="f", seq=0, verb="held", at=0, stage=stage, note=reason.sentence, reason=reason)
    for stage, reason in (("encode", BUSY), ("publish", BLOCKED))
]


def test_why_a_stage_does_not_run_is_told_once_and_not_again_by_all_that_wait_for_it() -> None:
    stream = io.StringIO()
    write = _writer("text", stream, Screen())
    for event in HELD:
        write(event)
    (only,) = stream.getvalue().splitlines()
    assert only.split()[2:4] == ["held", "encode"]
    assert only.endswith("no worker serves queue gpu")


def test_programs_are_told_of_every_stage_with_the_code_of_its_reason() -> None:
    stream = io.StringIO()
    write = _writer("jsonl", stream, Screen())
    for event in HELD:
        write(event)
    told = [json.loads(line)["data"] for line in stream.getvalue().splitlines()]
    assert [(one["verb"], one["stage"], one["reason"]["code"]) for one in told] == [
        ("held", "encode", "no_worker"),
        ("held", "publish", "children"),
    ]


@pytest.mark.parametrize(
    ("due_at", "told"),
    [(86_400_000 - 1_000, "again at 23:59:59"), (2 * 86_400_000 + 5_000, "again at 1970-01-03 00:00:05Z")],
)
def test_a_moment_of_another_day_is_told_with_its_date(due_at: int, told: str) -> None:
    event = Event(flow_id="f", seq=1, verb="retried", at=1_000, stage="s", attempt=1, due_at=due_at)
    assert "".join(span.text for span in event_line(event, Screen())).endswith(told)
