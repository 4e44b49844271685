"""A document as a table for people: each figure with a line for each contestant, and where flowq stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.document import rows_of
from benchmarks.figures import Row, Spread
from benchmarks.goals import GOALS

ANCHOR = "BullMQ"
_NAME = 15
_CHAIN_FIGURES = {
    "stages/s run": ("chains", "run, at its best"),
    "flows/s, added and run": ("chains", "submit and run"),
    "flows/s added": ("chains", "submit"),
    "one alone, p50, ms": ("latency", "p50"),
    "p99": ("latency", "p99"),
}


def report(made: Mapping[str, Any]) -> str:
    """The whole text."""
    return "\n".join([*_head(made), *_figures(made), *_goals(made), *_failures(made)])


def goal_table(made: Mapping[str, Any]) -> str:
    """The goals alone, as a table in Markdown."""
    found, peers = rows_of(made), python_peers(made)
    lines = ["| goal | measured | |", "|---|---|---|"]
    for goal in GOALS:
        if measured := goal.measured(found, peers):
            word = "met" if goal.is_met(measured) else "missed"
            lines.append(f"| {goal.says()} | {between(measured, made['rounds'])} | {word} |")
    return "\n".join(lines)


def chain_table(made: Mapping[str, Any]) -> str:
    """What everybody's chains of four took, as a table in Markdown."""
    rows = {(row.measure, row.name): row for row in rows_of(made)}
    shown = {title: rows[figure] for title, figure in _CHAIN_FIGURES.items() if figure in rows}
    lines = [f"| chains of four | {' | '.join(shown)} |", "|---" * (len(shown) + 1) + "|"]
    for each in made["contestants"]:
        spreads = [row.spread(each["name"]) for row in shown.values()]
        cells = [between(spread, made["rounds"]) if spread else "" for spread in spreads]
        if any(cells):
            lines.append(f"| {each['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits are more than such a figure is worth."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def between(spread: Spread, rounds: int) -> str:
    """The median, with the range over the rounds."""
    shown = number(spread.median)
    return shown if rounds == 1 else f"{shown} ({number(spread.least)}–{number(spread.most)})"


def python_peers(made: Mapping[str, Any]) -> list[str]:
    """Those that the fastest Python peer is chosen from."""
    return [each["name"] for each in made["contestants"] if each["is_python_peer"] and not each["missing"]]


def _head(made: Mapping[str, Any]) -> Iterator[str]:
    machine, server = made["machine"], made["server"]
    changed = " with changes" if made["is_modified"] else ""
    yield f"flowq {made['commit'][:12]}{changed} · {server['name']} {server['version']} · Python {machine['python']}"
    yield f"{machine['cpus']} × {machine['model']} · {machine['system']} · {made['measured_at']} · seed {made['seed']}"
    yield f"{made['rounds']} rounds; medians (least–most); ratios are taken within rounds"
    yield ""
    for each in made["contestants"]:
        versions = ", ".join(f"{name} {version}" for name, version in each["versions"].items() if version)
        part = f"; gets {each['share']:.0%} of the flows" if each["share"] < 1 else ""
        yield f"{each['name']:{_NAME}} {'MISSING: ' + each['missing'] if each['missing'] else each['settings'] + part}"
        if versions:
            yield f"{'':{_NAME}} {versions}"


def _figures(made: Mapping[str, Any]) -> Iterator[str]:
    names, peers, measure = [each["name"] for each in made["contestants"]], python_peers(made), ""
    for row in rows_of(made):
        if row.measure != measure:
            measure = row.measure
            yield f"\n== {measure}"
        fastest = row.best(peers)
        yield f"\n{row.name}, {row.unit} ({'more' if row.is_rate else 'less'} is better)"
        for name in names:
            if found := row.spread(name):
                yield f"  {name:{_NAME}} {between(found, made['rounds']):>28}  {_beside(row, name, peers, fastest)}".rstrip()


def _beside(row: Row, name: str, peers: list[str], fastest: str | None) -> str:
    """How it stands to BullMQ, and flowq to the best of the Python peers."""
    parts: list[str] = []
    if name != ANCHOR and (ratio := row.ratio(name, ANCHOR)):
        parts.append(f"{number(ratio.median)} × {ANCHOR}")
    if name not in peers and fastest and (ratio := row.ratio_to_best(name, peers)):
        parts.append(f"{number(ratio.median)} × the best Python peer ({fastest})")
    if name == "flowq" and (ratio := row.ratio(name, "floor")):
        parts.append(f"{number(ratio.median)} × the floor")
    return " · ".join(parts)


def _goals(made: Mapping[str, Any]) -> Iterator[str]:
    found, peers = rows_of(made), python_peers(made)
    yield "\n== goals"
    for goal in GOALS:
        measured = goal.measured(found, peers)
        if measured is None:
            yield f"  {'?':6} {goal.says()}: not measured"
        else:
            word = "met" if goal.is_met(measured) else "MISSED"
            yield f"  {word:6} {goal.says()}: {between(measured, made['rounds'])}"


def _failures(made: Mapping[str, Any]) -> Iterator[str]:
    if made["failures"]:
        yield "\n== failed"
    for failure in made["failures"]:
        yield f"  {failure['contestant']}, {failure['measure']}, round {failure['round'] + 1}: {failure['why']}"
