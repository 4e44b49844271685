"""Who is measured: flowq, its peers at pinned versions with the settings that each recommends, and the floor."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DRIVERS = ROOT / "benchmarks" / "drivers"

ALL = frozenset({"single", "chain", "diamond", "fan", "wide fan", "latency", "weight", "held", "claims", "idle"})
_THREADED = frozenset({"single", "chain", "latency", "weight", "idle"})
_SERIAL = _THREADED | {"held"}
_DURABLE = frozenset({"single", "chain", "fan", "latency"})


class Contestant(NamedTuple):
    """One who is measured.

    Attributes:
        name: as it stands in tables.
        driver: its program in `drivers/`.
        settings: how it is driven, for the reader of a table.
        packages: what is installed for it, at pinned versions; none: it runs in the harness's own environment.
        does: the kinds of work that it can do.
        share: the part of the flows that it gets. A rate hardly depends on it, and the slow ones would take hours.
        fsync: the `appendfsync` of the server that it is measured on; "none": no persistence.
        checkout: where flowq's code is.
    """

    name: str
    driver: str
    settings: str
    packages: tuple[str, ...] = ()
    does: frozenset[str] = ALL
    share: float = 1.0
    fsync: str = "none"
    checkout: Path = ROOT

    @property
    def is_node(self) -> bool:
        """Whether it runs in Node; all others run in Python."""
        return self.driver.endswith(".mjs")

    @property
    def is_python_peer(self) -> bool:
        """Whether it is one of those that "the fastest Python peer" is chosen from."""
        return bool(self.packages) and not self.is_node

    def home(self, cache: Path) -> Path:
        """Where its packages are installed."""
        return cache / self.name.lower().replace(" ", "-")

    def python(self, cache: Path) -> str:
        """The interpreter that has its packages."""
        return str(self.home(cache) / "bin" / "python") if self.packages else sys.executable

    def argv(self, cache: Path, url: str, namespace: str) -> list[str]:
        """The command that starts its driver."""
        return ["node" if self.is_node else self.python(cache), str(DRIVERS / self.driver), url, namespace]

    def environment(self, cache: Path) -> Mapping[str, str]:
        """What the driver needs to find its code."""
        return {"BENCH_HOME": str(self.home(cache)), "PYTHONPATH": "" if self.packages else str(self.checkout)}


_FLOWQ = "add_bulk of a generator, one Worker, all defaults; a fan is a map; leases, tokens, attempts, times, events, results on"

FLOWQ = Contestant("flowq", "flowq_driver.py", _FLOWQ)
FLOOR = Contestant(
    "floor", "floor_driver.py", "the smallest script that can move the same chains: two calls in flight, results kept",
    does=frozenset({"chain"}),
)  # fmt: skip
PROFILER = Contestant("py-spy", "", "not measured: it watches flowq's worker (profiling.py)", ("py-spy==0.4.3",))
BULLMQ = Contestant(
    "BullMQ", "bullmq.mjs", "addBulk by 1,000, flows by 250; one Worker, removeOnComplete; a fan has no first stage",
    ("bullmq@6.7.0", "ioredis@5.11.1"), ALL - {"diamond"},
)  # fmt: skip

CONTESTANTS = (
    FLOWQ,
    BULLMQ,
    Contestant(
        "BullMQ-py", "bullmq_py_driver.py", "addBulk by 1,000, flows by 250; one Worker, removeOnComplete; uvloop",
        ("bullmq==3.4.4", "hiredis==3.5.0", "uvloop==0.23.0"), _SERIAL | {"fan"}, 0.1,
    ),
    Contestant(
        "streaQ", "streaq_driver.py", "enqueue_many by 1,000, 50 flows at once by then() and after=, results for 5 min; uvloop",
        ("streaq==7.2.0", "hiredis==3.5.0", "uvloop==0.23.0"), _SERIAL | {"diamond", "fan"}, 0.1,
    ),
    Contestant(
        "taskiq", "taskiq_driver.py", "stream broker, 50 kicks at once, results for 60 s; a stage kicks the next; uvloop",
        ("taskiq==0.13.0", "taskiq-redis==1.2.4", "hiredis==3.5.0", "uvloop==0.23.0"), _SERIAL, 0.1,
    ),
    Contestant(
        "SAQ", "saq_driver.py", "50 enqueues at once, results for 60 s; a stage enqueues the next; uvloop",
        ("saq[redis,hiredis]==0.26.4", "typing-extensions==4.15.0", "uvloop==0.23.0"), _SERIAL, 0.1,
    ),
    Contestant(
        "arq", "arq_driver.py", "50 enqueues at once, poll_delay 10 ms, results for 60 s; a stage enqueues the next; uvloop",
        ("arq==0.28.0", "hiredis==3.5.0", "uvloop==0.23.0"), _SERIAL, 0.1,
    ),
    Contestant(
        "Celery", "celery_driver.py", "pool of threads, prefetch 4 a thread, no gossip or events; chains and chords",
        ("celery[redis]==5.7.0", "hiredis==3.5.0"), _THREADED | {"diamond", "fan"}, 0.05,
    ),
    Contestant(
        "dramatiq", "dramatiq_driver.py", "one process of threads, default middleware but Prometheus; chains by pipeline()",
        ("dramatiq[redis]==2.2.1", "hiredis==3.5.0"), _THREADED, 0.05,
    ),
    FLOOR,
    FLOWQ._replace(name="flowq everysec", settings="the same, with appendfsync everysec", fsync="everysec", does=_DURABLE),
    FLOWQ._replace(name="flowq always", settings="the same, with appendfsync always", fsync="always", does=_DURABLE),
)  # fmt: skip
