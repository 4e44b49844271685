"""Random histories on the real scripts and in the model: after each operation both stand the same.

`make property N=20000` plays more of them. What was found is told as a history to paste into a test: see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.property.playground import Playground

HISTORIES = int(os.environ.get("N") or 250)


@pytest.mark.timeout(max(300, HISTORIES))
def test_whatever_happens_to_flows_the_scripts_and_the_model_agree(
    playground: Playground, record_property: Callable[[str, object], None]
) -> None:
    difference = playground.search(HISTORIES, played=playground.judge)
    record_property("played", f"{playground.histories:,} histories with {playground.operations:,} operations")
    assert difference is None, str(difference)
    assert playground.operations > 5 * HISTORIES, "too little happens in a history"
