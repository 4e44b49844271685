"""A picture as DOT text, for Graphviz."""

from __future__ import annotations

from flowq.cli.render.mermaid import COLOURS
from flowq.cli.render.picture import Picture


def dot(picture: Picture) -> str:
    """A digraph from left to right; critical stages have a thick border."""
    lines = ["digraph flow {", "  rankdir=LR;", f'  label="{_quoted(picture.title)}";']
    lines.append('  node [shape=box, style="rounded,filled", fontname="sans-serif"];')
    for position, box in enumerate(picture.boxes):
        colour = COLOURS.get(box.state, COLOURS["blocked"])
        width = ", penwidth=3" if box.is_critical else ""
        lines.append(f'  s{position} [label="{_quoted(box.title)}\\n{_quoted(box.detail)}", fillcolor="{colour}"{width}];')
    lines += [f"  s{arrow.tail} -> s{arrow.head};" for arrow in picture.arrows]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
