"""A server and a directory of one's own for every test that kills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.plant import Plant


@pytest.fixture
def plant() -> Iterator[Plant]:
    """A plant, ended with the test."""
    made = Plant()
    yield made
    made.close()
