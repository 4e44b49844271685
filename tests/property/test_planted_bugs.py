"""The property test is worth what it catches: each of these bugs, planted into a script or a function, is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.property.bugs import BUGS
from tests.property.planting import Bug, NotPlanted, planted
from tests.property.playground import Playground

# So many histories would be played for a bug that nobody finds.
HISTORIES_MAX = 400
# Long ones find more, and nobody has to read these.
OPERATIONS_MIN = 35
# Of some that were tried, among these histories the bugs are found soonest: nobody waits for the others in each run.
SEED = 12


@pytest.mark.planted
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS, ids=[bug.breaks.replace(" ", "-") for bug in BUGS])
def test_a_planted_bug_is_caught(playground: Playground, bug: Bug, record_property: Callable[[str, object], None]) -> None:
    with planted(bug):
        difference = playground.search(HISTORIES_MAX, least=OPERATIONS_MIN, of=SEED)
    assert difference is not None, f"nobody noticed that {bug.breaks}, in {playground.operations:,} operations"
    said = f"“{bug.breaks}” was caught after {playground.histories:,} histories with {playground.operations:,} operations"
    record_property("played", said)
    # It is the bug that was caught, and no other difference.
    assert playground.latest is not None
    playground.play(playground.latest)


@pytest.mark.parametrize("where", ["release.lua", "flowq.model.restart:restart"])
def test_a_bug_whose_place_is_gone_is_not_taken_for_one_that_was_caught(where: str) -> None:
    with pytest.raises(NotPlanted, match="nothing of the kind"), planted(Bug("it breaks", where, "nothing of the kind", "")):
        pass


def test_there_are_many_bugs_and_each_is_another() -> None:
    assert len({(bug.where, bug.text) for bug in BUGS}) == len(BUGS) == len({bug.breaks for bug in BUGS}) >= 60


@pytest.mark.parametrize("bug", BUGS, ids=[bug.breaks.replace(" ", "-") for bug in BUGS])
def test_each_bug_has_a_place_to_be_planted(bug: Bug) -> None:
    with planted(bug):
        pass
