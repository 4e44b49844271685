"""Timetables: cron with time zones and clocks that change, and intervals."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flowq.errors import InvalidValue
from flowq.model.schedule import Schedule, Timetable


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def moments(timetable: Timetable, after: str, count: int) -> list[str]:
    found: list[str] = []
    at = ms(after)
    for _ in range(count):
        at = timetable.after(at)
        found.append(datetime.fromtimestamp(at / 1000, UTC).isoformat()[:16])
    return found


def test_cron_fires_at_the_local_time_on_both_sides_of_a_change_of_clocks() -> None:
    nightly = Timetable.checked("0 4 * * *", None, "Europe/Berlin")
    assert moments(nightly, "2026-10-23T12:00Z", 3) == ["2026-10-24T02:00", "2026-10-25T03:00", "2026-10-26T03:00"]


def test_what_falls_into_the_hour_that_is_left_out_comes_right_after_it() -> None:
    nightly = Timetable.checked("30 2 * * *", None, "Europe/Berlin")
    assert moments(nightly, "2026-03-28T12:00Z", 2) == ["2026-03-29T01:00", "2026-03-30T00:30"]


def test_what_falls_into_the_hour_that_comes_twice_comes_once() -> None:
    nightly = Timetable.checked("30 2 * * *", None, "Europe/Berlin")
    assert moments(nightly, "2026-10-24T12:00Z", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]


def test_an_interval_stays_in_step_whenever_one_looks() -> None:
    often = Timetable.checked(None, "5m", "UTC")
    assert moments(often, "2026-01-01T00:03Z", 2) == ["2026-01-01T00:05", "2026-01-01T00:10"]
    assert moments(often, "2026-01-01T00:05Z", 1) == ["2026-01-01T00:10"]


@pytest.mark.parametrize("timetable", [Timetable.checked("0 2 * * *", None, "UTC"), Timetable.checked(None, "24h", "UTC")])
def test_the_latest_moment_is_the_last_one_until_now(timetable: Timetable) -> None:
    for now in ("2026-05-05T02:00:00Z", "2026-05-05T02:00:00.001Z", "2026-05-06T01:59:59.999Z"):
        latest = timetable.latest(ms(now))
        assert latest <= ms(now) < timetable.after(latest)


@pytest.mark.parametrize(
    ("cron", "every", "tz"),
    [
        (None, None, "UTC"),
        ("0 2 * * *", "5m", "UTC"),
        ("soon", None, "UTC"),
        ("0 0 30 2 *", None, "UTC"),
        (5, None, "UTC"),
        ("0 2 * * *", None, "Berlin"),
        ("0 2 * * *", None, "../etc/passwd"),
        ("0 2 * * *", None, None),
        (None, "10ms", "UTC"),
        (None, "often", "UTC"),
    ],
)
def test_a_timetable_that_makes_no_sense_is_refused(cron: str, every: str, tz: str) -> None:
    with pytest.raises(InvalidValue):
        Timetable.checked(cron, every, tz)


def test_a_firing_has_one_id_whoever_makes_it() -> None:
    schedule = Schedule("nightly", "report", b"", Timetable())
    assert schedule.flow_id(ms("2026-05-05T02:00:00Z")) == "nightly@2026-05-05T02:00:00Z"
    assert schedule.flow_id(ms("2026-05-05T02:00:00.050Z")) == "nightly@2026-05-05T02:00:00.050Z"
    assert schedule.flow_id(ms("2026-05-05T02:00:00Z"), 7) == "nightly@2026-05-05T02:00:00.000007Z"
