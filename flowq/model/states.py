"""The states of stages and flows, and the table of verbs that lead from one to another.

The diagram in the documentation and the test of every verb against every state are made from `TRANSITIONS`.
"""

from __future__ import annotations

from typing import Final, Literal

StageState = Literal["blocked", "scheduled", "ready", "running", "suspended", "completed", "failed", "cancelled", "skipped"]
FlowState = Literal["scheduled", "ready", "running", "suspended", "paused", "completed", "failed", "cancelled"]

FINAL: Final = frozenset({"completed", "failed", "cancelled", "skipped"})

TRANSITIONS: Final[dict[str, tuple[frozenset[str], str]]] = {
    "release": (frozenset({"blocked"}), "ready"),
    "delay": (frozenset({"blocked"}), "scheduled"),
    "promote": (frozenset({"scheduled"}), "ready"),
    "claim": (frozenset({"ready"}), "running"),
    "suspend": (frozenset({"running"}), "suspended"),
    "resume": (frozenset({"suspended"}), "ready"),
    "complete": (frozenset({"running", "suspended"}), "completed"),
    "skip": (frozenset({"running"}), "skipped"),
    "retry": (frozenset({"running", "completed", "failed", "cancelled", "skipped"}), "scheduled"),
    "fail": (frozenset({"running", "suspended"}), "failed"),
    "rescue": (frozenset({"running"}), "ready"),
    "cancel": (frozenset({"blocked", "scheduled", "ready", "running", "suspended"}), "cancelled"),
}

# The letter under which a stage's state is stored in its record; one byte each, because every stage has one.
STATE_LETTER: Final[dict[str, StageState]] = {
    "s": "scheduled",
    "r": "ready",
    "x": "running",
    "u": "suspended",
    "c": "completed",
    "f": "failed",
    "k": "cancelled",
    "-": "skipped",
}
