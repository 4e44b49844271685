"""The rounds: in each, every measure is taken of every contestant in turn, and nobody is always first."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import redis

from benchmarks.contestants import Contestant
from benchmarks.conversation import DriverFailed
from benchmarks.figures import Figure, Row
from benchmarks.measures import Measure
from benchmarks.stand import Server, Sizes, stand_for

_QUICK_MEASURE = "chains"
_QUICK_CONTESTANTS = ("flowq",)


class Failure(NamedTuple):
    """A measure that could not be taken, which is reported and never left out in silence."""

    contestant: str
    measure: str
    round: int
    why: str


class Taken(NamedTuple):
    """A figure with where it comes from."""

    measure: str
    contestant: str
    round: int
    figure: Figure


def played(
    contestants: Sequence[Contestant], measures: Sequence[Measure], servers: Mapping[str, Server],
    *, rounds: int, sizes: Sizes, cache: Path, seed: int, is_quick: bool = False,
) -> Iterator[Taken | Failure]:  # fmt: skip
    """All figures and failures, as they come. If it must be quick, most contestants are only asked for chains."""
    order = list(contestants)
    random.Random(seed).shuffle(order)
    for turn in range(rounds):
        for measure in measures:
            if measure.rounds_max is not None and turn >= measure.rounds_max:
                continue
            for contestant in rotated(order, turn):
                if is_quick and measure.name != _QUICK_MEASURE and contestant.name not in _QUICK_CONTESTANTS:
                    continue
                if not measure.needs or measure.needs in contestant.does:
                    print(f"round {turn + 1} of {rounds}: {measure.name}: {contestant.name}", file=sys.stderr)
                    yield from _taken(measure, contestant, servers[contestant.fsync], sizes, cache, turn)


def rotated(order: Sequence[Contestant], turn: int) -> list[Contestant]:
    """In each round somebody else comes first."""
    first = turn % max(1, len(order))
    return [*order[first:], *order[:first]]


def rows(found: Iterable[Taken], rounds: int) -> list[Row]:
    """Figures by measure and name, in the order in which they were first taken; what is missing in a round is None."""
    made: dict[tuple[str, str], Row] = {}
    for measure, contestant, turn, figure in found:
        row = made.setdefault((measure, figure.name), Row(measure, figure.name, figure.unit, figure.is_rate, {}))
        values = dict(row.values)
        mine = list(values.get(contestant, [None] * rounds))
        mine[turn] = figure.value
        made[measure, figure.name] = row._replace(values={**values, contestant: mine})
    return list(made.values())


def _taken(
    measure: Measure, contestant: Contestant, server: Server, sizes: Sizes, cache: Path, turn: int
) -> Iterator[Taken | Failure]:
    stand = stand_for(contestant, server, sizes, cache)
    try:
        for figure in measure.take(stand):
            yield Taken(measure.name, contestant.name, turn, figure)
    except (DriverFailed, redis.RedisError, OSError, KeyError, subprocess.CalledProcessError) as error:
        yield Failure(contestant.name, measure.name, turn, f"{type(error).__name__}: {error}")
