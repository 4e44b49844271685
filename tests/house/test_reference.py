"""The tables of the reference say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.reference import PAGES, TABLES, places, refreshed


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_of_the_reference_is_up_to_date(page: Path) -> None:
    """Else: make docs."""
    text = page.read_text("utf-8")
    assert text == refreshed(text), "run `make docs`"


def test_every_table_has_its_place() -> None:
    """A table that stands nowhere is not read by anybody."""
    placed = [name for page in PAGES.glob("*.md") for name in places(page.read_text("utf-8"))]
    assert sorted(placed) == sorted(TABLES)
