"""The JSON that programs read."""

from __future__ import annotations

import json

from flowq.cli.documents import envelope, iso, json_text, plain
from flowq.model.event import Event
from tests.cli import snapshots


def test_the_envelope_has_three_keys() -> None:
    document = json.loads(json_text(envelope("flow", snapshots.RUNNING), pretty=True))
    assert list(document) == ["schema_version", "kind", "data"]
    assert document["schema_version"] == 1


def test_moments_are_iso_8601_in_utc_and_durations_are_seconds() -> None:
    document = plain(snapshots.RUNNING)
    assert document["created_at"] == "2026-11-22T01:02:03.456Z"
    assert document["ended_at"] is None
    assert document["graph"][0]["started_at"] == "2026-11-22T01:02:03.656Z"
    assert document["graph"][3]["history"][0]["started_at"] == "2026-11-22T01:02:22.456Z"
    assert document["graph"][0]["run_seconds"] == 12.1
    assert plain(Event(flow_id="a", seq=1, verb="retried", at=0, due_at=1500))["due_at"] == "1970-01-01T00:00:01.500Z"


def test_what_users_returned_is_left_as_it_is() -> None:
    import msgspec

    value = {"at": 5, "created_at": 6, "deep": [{"ended_at": 7}]}
    document = plain(msgspec.structs.replace(snapshots.COMPLETED, result=value, inputs=value))
    assert document["result"] == value
    assert document["inputs"] == value


def test_json_is_without_controls_and_says_the_same() -> None:
    hostile = envelope("flow", snapshots.hostile())
    text = json_text(hostile, pretty=True)
    assert [char for char in text if not char.isprintable() and char != "\n"] == []
    assert json.loads(text)["data"]["id"] == snapshots.HOSTILE


def test_what_is_printable_in_any_language_is_not_escaped() -> None:
    assert json_text({"größer": "東京 🎬"}, pretty=False) == '{"größer":"東京 🎬"}'


def test_numbers_that_json_lacks_become_null() -> None:
    assert json_text({"a": float("nan"), "b": float("inf")}, pretty=False) == '{"a":null,"b":null}'


def test_a_moment_far_outside_the_calendar_does_not_hide_the_rest() -> None:
    assert iso(10**18) == str(10**18)
