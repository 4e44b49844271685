"""How scripts are put together."""

from __future__ import annotations

import re

import pytest

from flowq.store.script_loader import _with_constants, script


def test_constants_are_written_where_they_are_used_and_lines_keep_their_numbers() -> None:
    lua = (
        "local READY, SIZE = 'r', 1.5\nlocal MOST = SIZE\nlocal x = READY .. 'READY' -- READY\nreturn view.READY, READY_AT, MOST"
    )
    assert _with_constants(lua) == "\n\nlocal x = 'r' .. 'READY' -- READY\nreturn view.READY, READY_AT, 1.5"


def test_a_constant_may_be_said_twice_but_not_with_two_values() -> None:
    assert _with_constants("local A = 1\nlocal A, B = 1, A\nreturn B") == "\n\nreturn 1"
    with pytest.raises(ValueError, match="A is 1 and 2 in one script"):
        _with_constants("local A = 1\nlocal A = 2")


@pytest.mark.parametrize("name", ["exchange", "cancel", "retry", "submit"])
def test_a_script_has_fewer_local_names_than_the_server_allows(name: str) -> None:
    names = re.findall(r"^local (?:function )?([\w, ]+)", script(name).source, flags=re.MULTILINE)
    assert sum(len(found.split(",")) for found in names) < 190
