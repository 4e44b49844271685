"""Glyph and colour of every state. The glyph alone tells the state, so nothing is lost without colours."""

from __future__ import annotations

from typing import Final, NamedTuple


class Look(NamedTuple):
    """How a state is shown.

    Attributes:
        glyph: one column wide.
        ascii: what stands for the glyph where the encoding lacks it.
        style: its colour.
    """

    glyph: str
    ascii: str
    style: str


LOOKS: Final = {
    "completed": Look("✔", "+", "ok"),
    "reused": Look("≡", "&", "ok"),
    "failed": Look("✘", "x", "bad"),
    "running": Look("▶", ">", "run"),
    "retrying": Look("↻", "~", "retry"),
    "scheduled": Look("↻", "~", "retry"),
    "suspended": Look("‖", "=", "wait"),
    "paused": Look("‖", "=", "wait"),
    "ready": Look("○", "o", "wait"),
    "blocked": Look("·", ".", "dim"),
    "cancelled": Look("⊘", "/", "dim"),
    "skipped": Look("–", "-", "dim"),
}

# The order in which counts are told: what matters most stands first.
ORDER: Final = ("failed", "running", "scheduled", "ready", "suspended", "blocked", "completed", "cancelled", "skipped")


def glyph(state: str, unicode: bool) -> str:
    """The glyph of a state; a state that a newer flowq wrote is shown as `?`."""
    look = LOOKS.get(state)
    return "?" if look is None else look.glyph if unicode else look.ascii


def style(state: str) -> str:
    """The style of a state."""
    look = LOOKS.get(state)
    return look.style if look else ""
