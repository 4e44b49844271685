"""docs/reference/semantics.md promises nothing that no test states; that it is up to date is seen by test_reference.py."""

from __future__ import annotations

from tests.house.semantics import GROUPS, RESULTS, rows

ROWS = rows()


def test_every_named_test_exists() -> None:
    """A row whose test was renamed or removed promises what nobody checks."""
    assert [(row.id, row.missing) for row in ROWS if row.missing] == []


def test_every_row_names_a_test_or_says_why_there_is_none() -> None:
    """Out of scope, or not there yet."""
    bare = [row for row in ROWS if not row.tests]
    assert [row.id for row in bare if not (row.out_of_scope or row.result == "not yet")] == []
    assert [row.id for row in ROWS if row.out_of_scope and (row.tests or row.result != "differs")] == []


def test_every_row_says_how_it_compares() -> None:
    """And what differs says why."""
    assert {row.result for row in ROWS} <= set(RESULTS)
    assert [row.id for row in ROWS if (row.result in ("differs", "not yet")) != bool(row.why)] == []


def test_rows_are_numbered_and_stand_in_their_groups() -> None:
    """Whoever cites a row finds it."""
    order = [(list(GROUPS).index(row.id[0]), int(row.id[1:])) for row in ROWS]
    assert order == sorted(set(order))
    assert [row.id for row in ROWS if not row.does.endswith(".") or "\n" in row.does] == []
