"""The table of transitions: complete, and closed."""

from __future__ import annotations

from typing import get_args

from flowq.model.states import FINAL, STATE_LETTER, TRANSITIONS, StageState


def test_the_table_knows_only_states_that_exist() -> None:
    states = set(get_args(StageState))
    for verb, (sources, target) in TRANSITIONS.items():
        assert sources <= states, verb
        assert target in states, verb


def test_final_states_are_left_only_by_a_retry() -> None:
    assert {verb for verb, (sources, _) in TRANSITIONS.items() if sources & FINAL} == {"retry"}


def test_every_stored_state_has_a_letter_of_its_own() -> None:
    # A blocked stage has no record, so no letter.
    assert sorted(STATE_LETTER.values()) == sorted(set(get_args(StageState)) - {"blocked"})
    assert all(len(letter) == 1 for letter in STATE_LETTER)
