"""What stages get beside results, as the flow's hash holds it."""

from __future__ import annotations

import pytest

from flowq.store.literals import CUT_AT, fields_of_literals, joined, names_of_literals


@pytest.mark.parametrize("length", [0, 1, CUT_AT - 1, CUT_AT, CUT_AT + 1, 2 * CUT_AT, 2 * CUT_AT + 1, 1_000])
def test_what_is_cut_is_joined_again(length: int) -> None:
    fields = dict(fields_of_literals(3, b"x" * length))
    assert joined(*(fields.get(name) for name in names_of_literals(3))) == b"x" * length


def test_the_rest_of_earlier_literals_is_not_taken_for_theirs() -> None:
    assert joined(b"new", b"rest of old") == b"new"
    assert joined(None, b"rest of old") == b""
