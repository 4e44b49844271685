"""What a release would strand of the flows in flight."""

from __future__ import annotations

from flowq.model.builtin import BUILTIN_QUEUE, SIGNAL_STAGE
from flowq.model.plan import StagePlan
from flowq.model.release import ReleaseCheck


def test_an_approval_strands_with_no_release() -> None:
    check = ReleaseCheck({})
    check.take("clip", "reviewed", [(StagePlan("approved", SIGNAL_STAGE, BUILTIN_QUEUE), ("name",)), (StagePlan("a", "a"), ())])
    assert [one.stage for one in check.report.strandings] == ["a"]
