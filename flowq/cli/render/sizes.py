"""Numbers for people: bytes, counts, percentages, moments."""

from __future__ import annotations

from collections.abc import Iterable

from flowq.cli.documents import iso
from flowq.cli.render import palette
from flowq.model.duration import shown_duration


def shown_bytes(size: int) -> str:
    """`812 B`, `38 kB`, `1.2 GB`: powers of 1,000, as disks and S3 count."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def shown_percent(share: float | None) -> str:
    """`61%`; 100% only when it is all."""
    if share is None:
        return ""
    return "100%" if share >= 1 else f"{min(99, int(share * 100))}%"


def shown_seconds(seconds: float | None) -> str:
    """A duration, or nothing where there is none yet."""
    return "" if seconds is None else shown_duration(max(0.0, seconds))


def shown_moment(ms: int) -> str:
    """`2026-11-22 01:02:03Z`."""
    return iso(ms)[:19].replace("T", " ") + "Z"


def shown_counts(states: Iterable[str], unicode: bool) -> str:
    """`2 ✘ 7 ▶ 231 ✔`: how many are in which state."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    known = [state for state in palette.ORDER if state in counts] + sorted(set(counts) - set(palette.ORDER))
    return "  ".join(f"{counts[state]:,} {palette.glyph(state, unicode)}" for state in known)


def shown_stages(count: int) -> str:
    """`1 stage`, `7 stages`."""
    return f"{count:,} stage" if count == 1 else f"{count:,} stages"


def shown_done(done: int, total: str, failed: int) -> str:
    """`3/7 stages`, `2/4 stages, 1 failed`: what failed is final, but not done."""
    return f"{done:,}/{total}" + (f", {failed:,} failed" if failed else "")
