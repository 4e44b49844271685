"""What `flowq worker` tells on the terminal, itself and by its processes."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from tests.cli.terminal import flowq

TALKING = """
import logging
from flowq import stage

@stage
def heard_on_the_terminal() -> None:
    logging.getLogger(__name__).warning("said by a stage")
"""


def test_a_worker_and_its_processes_log_alike(valkey_url: str, tmp_path: Path) -> None:
    (tmp_path / "talking.py").write_text(TALKING, "utf-8")
    settings = {"FLOWQ_URL": valkey_url, "FLOWQ_NAMESPACE": f"log{secrets.token_hex(4)}"}
    assert flowq("submit", "talking.py:heard_on_the_terminal", env=settings, cwd=tmp_path).code == 0
    ran = flowq("worker", "talking.py", "--burst", env=settings, cwd=tmp_path)
    assert ran.code == 0, ran
    lines = ran.err.splitlines()
    assert {"said by a stage", "serves heard_on_the_terminal"} <= {
        found for line in lines for found in re.findall("said by a stage|serves heard_on_the_terminal", line)
    }
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line)] == []
