"""The lines of `watch` where there is no terminal: which events are worth one."""

from __future__ import annotations

import io
import json

from flowq.cli.following import _writer
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
