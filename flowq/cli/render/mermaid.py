"""A picture as Mermaid text, for Markdown pages and merge requests."""

from __future__ import annotations

from typing import Final

from flowq.cli.render.picture import Picture

COLOURS: Final = {
    "completed": "#d3f2dc", "failed": "#ffd6d6", "running": "#cfe8ff", "scheduled": "#f0ddff", "ready": "#fff2c2",
    "suspended": "#fff2c2", "blocked": "#f0f0f0", "cancelled": "#e4e4e4", "skipped": "#e4e4e4",
}  # fmt: skip


def mermaid(picture: Picture) -> str:
    """A flowchart from left to right; `critical` stages have a thick border."""
    lines = ["flowchart LR"]
    for position, box in enumerate(picture.boxes):
        state = box.state if box.state in COLOURS else "blocked"
        lines.append(f'  s{position}["{_quoted(box.title)}<br/>{_quoted(box.detail)}"]:::{state}')
    lines += [f"  s{arrow.tail} --> s{arrow.head}" for arrow in picture.arrows]
    lines += [f"  classDef {state} fill:{colour},stroke:#555,color:#111" for state, colour in COLOURS.items()]
    lines += [f"  style s{position} stroke-width:3px" for position, box in enumerate(picture.boxes) if box.is_critical]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Mermaid reads HTML and its own quotes inside labels; entities it shows as they are."""
    return "".join(char if char.isalnum() or char in " .,:/_-%×✔✘▶·○↻⊘–‖" else f"#{ord(char)};" for char in text)
