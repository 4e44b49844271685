"""What the run says at its end: how many histories were played, and after how many each planted bug was caught.

The conftest of all tests loads it: the process that reports on tests that run side by side loads no other.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how much was played, and after how much each planted bug was caught."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    said = [value for report in reports for name, value in report.user_properties if name == "played"]
    if said:
        terminalreporter.section("histories")
        for line in said:
            terminalreporter.write_line(line)
