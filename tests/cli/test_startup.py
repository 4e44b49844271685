"""What the command line loads: every library that a command does not need would be waited for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from tests.cli.terminal import ROOT, environment

_SCRIPT = """
import sys
from flowq.cli import main
main(sys.argv[1:])
print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*words: str, env: Mapping[str, str] = {}) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *words], env=environment(env), cwd=ROOT, capture_output=True, text=True, timeout=40
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("words", [["--help"], ["inspect", "--help"], ["inspect"], ["version"], ["config"]])
def test_what_needs_no_server_loads_no_client(words: list[str]) -> None:
    assert loaded(*words).isdisjoint({"redis", "rich", "boto3", "networkx", "starlette"})


@pytest.mark.parametrize("words", [["inspect", "finished"], ["inspect", "finished", "-o", "json"], ["list"]])
def test_looking_at_flows_loads_neither_rich_nor_boto3_nor_networkx(
    server: Mapping[str, str], finished: str, words: list[str]
) -> None:
    assert loaded(*words, env=server).isdisjoint({"rich", "boto3", "networkx", "starlette"})
