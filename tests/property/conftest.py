"""A playground for each test, and a line at the end of the run that says how much was played."""

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how much was played, and after how much each planted bug was caught."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    said = [value for report in reports for name, value in report.user_properties if name == "played"]
    if said:
        terminalreporter.section("histories")
        for line in said:
            terminalreporter.write_line(line)
