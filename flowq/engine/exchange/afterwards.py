"""What few outcomes are followed by, such as keeping a result for other flows: when the server has accepted them, not before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowq.engine.run.stage_run import RunKey
from flowq.model.exchanged import Exchanged
from flowq.model.outcome import Outcome


class Afterwards:
    """The steps that wait for the outcomes of one conversation. Costs nothing while there are none."""

    def __init__(self) -> None:
        self._steps: dict[RunKey, Callable[[], None]] = {}

    def note(self, outcome: Outcome, step: Callable[[], None] | None) -> None:
        """This step follows the outcome, if there is one."""
        if step is not None:
            self._steps[key_of(outcome)] = step

    def heard(self, outcomes: Sequence[Outcome], answer: Exchanged) -> None:
        """These outcomes were judged."""
        if not self._steps:
            return
        refused = {verdict.position for verdict in answer.verdicts if verdict.word != "replayed"}
        for position, outcome in enumerate(outcomes):
            step = self._steps.pop(key_of(outcome), None)
            if step is not None and position not in refused:
                step()


def key_of(outcome: Outcome) -> RunKey:
    """Which run an outcome is of."""
    return outcome.flow_id, outcome.index, outcome.fence, outcome.nonce
