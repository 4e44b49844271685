"""A playground for each test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.property.playground import Playground


@pytest.fixture
def playground(valkey_url: str) -> Iterator[Playground]:
    """Where histories are played."""
    logger = logging.getLogger("flowq.engine")
    level = logger.level
    # A crash in every third history is no news.
    logger.setLevel(logging.ERROR)
    opened = Playground(valkey_url)
    yield opened
    opened.close()
    logger.setLevel(level)
