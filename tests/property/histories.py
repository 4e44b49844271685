"""Random histories: graphs, policies, and what happens to their flows."""

from __future__ import annotations

from hypothesis import strategies as st
from msgspec.structs import replace

from flowq.model.items import Mapped
from flowq.model.plan import Binding, Plan, StagePlan
from flowq.model.retry import Backoff
from tests.property.operations import (
    Add,
    Close,
    Crash,
    Due,
    Ending,
    History,
    Hold,
    Late,
    Operation,
    Retry,
    Signal,
    Spawn,
    Steer,
    Work,
)

STAGES_MAX, OPERATIONS_MAX = 6, 60
# Weights are repetitions.
_ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(
    ("complete",) * 8
    + ("error",) * 3
    + ("skip", "fatal", "later", "release", "await", "sleep", "sleep", "ask", "ask briefly", "ask again")  # type: ignore[arg-type]
)
_small = st.integers(0, 11)
_seldom = st.sampled_from((False,) * 5 + (True,))
HOUR_MS = 3_600_000


@st.composite
def plans(draw: st.DrawFn, pipeline: str, most: int = STAGES_MAX) -> Plan:
    """A graph of a few stages: any earlier ones are children, bound or only waited for, borne or not."""
    count = draw(st.integers(1, most))
    # All in one lane, or in several.
    names = draw(st.sampled_from(("a", "ab", "ab")))
    queues = draw(st.sampled_from((("default",), ("default", "default", "slow"))))
    children_of: list[list[tuple[int, bool, bool]]] = []
    # Some begin with many stages at once.
    is_wide = draw(st.sampled_from((False, False, True)))
    for index in range(count):
        kinds = st.sampled_from(("none", "none", "bound", "borne", "borne", "after", "after borne"))
        if index < 4 and is_wide:
            edges: list[tuple[int, str]] = []
        elif index < 4:
            edges = [(child, draw(kinds)) for child in range(index)]
        else:
            edges = [(index - 3, draw(kinds)), (index - 1, "bound")]
        children_of.append([(child, not kind.startswith("after"), "borne" in kind) for child, kind in edges if kind != "none"])
    stages: list[StagePlan] = []
    for index, children in enumerate(children_of):
        name = draw(st.sampled_from(names))
        mapping = Mapped("x", draw(st.sampled_from((0, 1, 2))), draw(st.sampled_from((0, 0, 1, 2)))) if draw(_seldom) else None
        bindings = tuple(
            Binding((f"a{child}",), child, on_failure="value" if borne else "fail") for child, bound, borne in children if bound
        )
        stages.append(
            StagePlan(
                f"{name}-{index}", name,
                queue=draw(st.sampled_from(queues)),
                attempts=draw(st.sampled_from((1, 2, 2, 3))),
                backoff=Backoff.fixed("1h"),
                priority=draw(st.sampled_from((0, 0, 0, 1))),
                bindings=bindings,
                children=tuple(child for child, _, _ in children),
                parents=tuple(parent for parent, others in enumerate(children_of) if index in [child for child, _, _ in others]),
                tolerates=tuple(child for child, _, borne in children if borne),
                delay_ms=HOUR_MS if draw(_seldom) else 0,
                mapping=mapping,
            )
        )  # fmt: skip
    return Plan(
        pipeline, tuple(stages), (Binding((), count - 1),), draw(st.sampled_from((False, False, True))), draw(st.booleans())
    )


_works = st.builds(
    Work,
    actor=st.integers(0, 1),
    partition=st.integers(0, 3),
    reports=st.lists(st.tuples(_small, _ENDINGS), max_size=4).map(tuple),
    capacity=st.sampled_from((0, 1, 1, 2, 3, 4, 4, 10)),
    without=st.sampled_from((0, 0, 0, 1, 2, 3, 4)),
    is_repeated=_seldom,
)
_adds = st.builds(
    Add,
    flow=st.integers(0, 3),
    plan=st.integers(0, 1),
    inputs=st.sampled_from((0, 0, 0, 1)),
    priority=st.sampled_from((0, 0, 0, 5)),
    begins_later=_seldom,
    has_deadline=_seldom,
    is_anew=_seldom,
)
_spawns = st.builds(
    Spawn,
    actor=st.integers(0, 1),
    run=_small,
    key=st.sampled_from((0, 0, 0, 1)),
    plan=st.sampled_from((2, 2, 2, 0)),
    inputs=st.sampled_from((0,) * 7 + (1,)),
    then=st.sampled_from(("await", "await", "sleep", "ask briefly", None, None)),
)
_steers = st.builds(
    Steer,
    verb=st.sampled_from(("cancel", "cancel", "pause", "resume", "resume", "prune", "prune", "drop", "fell")),
    flow=_small,
)
# How often each is drawn; `one_of` would draw all of them equally often.
_WEIGHED: tuple[tuple[int, st.SearchStrategy[Operation]], ...] = (
    (22, _works),
    (5, _adds),
    (4, st.builds(Late, run=st.integers(0, 40), ending=_ENDINGS)),
    (3, st.builds(Crash, actor=st.integers(0, 1), how=st.sampled_from(("killed", "killed", "lost", "stopped")))),
    (5, st.builds(Due, what=_small)),
    (7, _spawns),
    (3, st.builds(Signal, flow=_small, value=st.sampled_from((0, 0, 1)))),
    (7, _steers),
    (2, st.builds(Hold, what=st.integers(0, 3), is_resumed=st.booleans())),
    (6, st.builds(Retry, flow=_small, above=st.sampled_from((0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)))),
    (4, st.builds(Close, what=st.sampled_from((0, 0, 1, 2)))),
)
_KINDS = st.sampled_from([strategy for weight, strategy in _WEIGHED for _ in range(weight)])


@st.composite
def histories(draw: st.DrawFn, least: int = 1) -> History:
    """A whole history of at least so many operations; it begins with flows, or nothing could happen."""
    partitions = draw(st.sampled_from((1, 1, 1, 4)))
    some = (draw(plans("one")), draw(plans("other")), draw(plans("beneath", 2)))
    count = draw(st.integers(least, OPERATIONS_MAX))
    first = [replace(draw(_adds), flow=flow, is_anew=False) for flow in range(draw(st.sampled_from((1, 2, 4, 4))))]
    return History(partitions, some, (*first, *(draw(draw(_KINDS)) for _ in range(count))))
