"""What is measured: one module for each measure, each a function from a `Stand` to figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.figures import Figure
from benchmarks.measures.claims import claims, claims_behind_many
from benchmarks.measures.fans import fan, wide_fan
from benchmarks.measures.idleness import idleness
from benchmarks.measures.latency import latency
from benchmarks.measures.rates import chains, diamonds, singles
from benchmarks.measures.startup import startup
from benchmarks.measures.weight import weight
from benchmarks.stand import Stand


class Measure(NamedTuple):
    """One measure.

    Attributes:
        name: as it stands in tables and JSON.
        title: for people.
        needs: the kind of work that a contestant must be able to do; empty: all are asked.
        take: measures one contestant once.
        rounds_max: no more rounds than this, because one takes minutes, or no goal is about it.
    """

    name: str
    title: str
    needs: str
    take: Callable[[Stand], Iterable[Figure]]
    rounds_max: int | None = None


MEASURES = (
    Measure("singles", "single stages", "single", singles, 3),
    Measure("chains", "chains of four", "chain", chains),
    Measure("diamonds", "diamonds: one, two beside each other, one", "diamond", diamonds, 3),
    Measure("fan", "one, many beside each other, one", "fan", fan),
    Measure("wide fan", "one, very many beside each other, one", "wide fan", wide_fan),
    Measure(
        "latency",
        "a chain of four on an idle worker, from its submission until the submitter knows of its end",
        "latency",
        latency,
    ),
    Measure("weight", "memory of a chain of four", "weight", weight),
    Measure("claims", "claiming one stage behind so many", "claims", claims),
    Measure("claims behind many", "claiming one stage behind very many", "claims", claims_behind_many, 2),
    Measure("idleness", "a worker that has nothing to do", "idle", idleness, 3),
    Measure("start-up", "starting", "", startup),
)
