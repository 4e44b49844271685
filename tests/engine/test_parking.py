"""A process that waits is parked once: a call tells it again when it was woken, serves other routes, or asks after a while."""

from __future__ import annotations

import time

import pytest

from flowq.engine.exchange.parking import Parking
from flowq.store.wants import Wants

ONE = [Wants(5, ("q:a",), ("q:a!",))]
FEWER = [Wants(3, ("q:a",), ("q:a!",))]
OTHER = [Wants(5, ("q:a", "q:b"), ("q:a!", "q:b!"))]


def test_it_is_told_once_whatever_the_room() -> None:
    parking = Parking()
    assert parking.is_needed(ONE, 0)
    parking.told(ONE, 0)
    assert not parking.is_needed(ONE, 0)
    assert not parking.is_needed(FEWER, 0)


def test_who_was_woken_is_told_of_again() -> None:
    parking = Parking()
    parking.told(ONE, 0)
    assert parking.is_needed(ONE, 1)


def test_a_wake_up_that_overtook_the_answer_counts() -> None:
    """It was woken while the call was under way: what the call told is over."""
    parking = Parking()
    wakes_when_called, wakes_now = 3, 4
    parking.told(ONE, wakes_when_called)
    assert parking.is_needed(ONE, wakes_now)


def test_who_serves_other_routes_waits_elsewhere_too() -> None:
    """Such as one that runs something, and then asks for no suspects."""
    parking = Parking()
    parking.told(ONE, 0)
    assert parking.is_needed(OTHER, 0)
    parking.told(OTHER, 0)
    assert not parking.is_needed(ONE, 0)
    assert parking.is_needed(ONE, 1)


def test_it_is_told_again_with_each_question_of_who_has_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those come a second after each other: a server that has forgotten it learns it by the next one."""
    parking, began = Parking(), time.monotonic()
    parking.told(ONE, 0)
    monkeypatch.setattr(time, "monotonic", lambda: began + 1.0)
    assert parking.is_needed(ONE, 0)
