"""Ids and names: what could break a key, a path or a terminal is refused, URLs are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.errors import InvalidValue
from flowq.model.names import check_flow_id, check_name, check_namespace

HOSTILE: list[Any] = [
    "", " ", "a b",
    "a\n", "\x00", "a{b}", "}{", "a\\b", "ü", "🎬", "\u202e", "\ud800", None, 1, b"a", True, [], "-a", ".a", "a\x7f",
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE)
def test_no_hostile_text_is_an_id_or_a_name(value: Any) -> None:
    for check in (lambda: check_flow_id(value), lambda: check_name(value, "queue"), lambda: check_namespace(value)):
        with pytest.raises(InvalidValue) as refusal:
            check()
        assert all(char.isprintable() for char in str(refusal.value))


@pytest.mark.parametrize("value", ["short:42", "https://example.com/watch?v=1&t=2#x", "a" * 256, "0", "A-b_c.d~e|f[g]"])
def test_urls_and_the_like_are_ids(value: str) -> None:
    assert check_flow_id(value) == value


def test_lengths_are_bounded() -> None:
    for check, most in ((check_flow_id, 256), (lambda value: check_name(value, "queue"), 128), (check_namespace, 64)):
        assert check("a" * most)
        with pytest.raises(InvalidValue):
            check("a" * (most + 1))


@given(st.text())
def test_what_passes_can_break_no_hash_tag(text: str) -> None:
    try:
        check_flow_id(text)
    except InvalidValue:
        return
    assert not set(text) & set("{}\\ \n\0")
