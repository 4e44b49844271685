"""Cycles and the critical path."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.model.graph import critical_path, cycle_in


def test_a_graph_without_cycle_has_none() -> None:
    assert cycle_in({}) is None
    assert cycle_in({"a": ["b", "c"], "b": ["c"], "c": []}) is None


def test_a_cycle_is_a_path_from_parent_to_child_that_ends_where_it_began() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a"]}
    path = cycle_in(graph)
    assert path is not None
    assert path[0] == path[-1]
    assert len(path) == 4
    assert all(child in graph[parent] for parent, child in itertools.pairwise(path))


def test_the_shortest_of_several_cycles_is_shown() -> None:
    assert cycle_in({"a": ["b"], "b": ["c"], "c": ["a", "b"]}) in (["b", "c", "b"], ["c", "b", "c"])
    assert cycle_in({"a": ["b"], "b": ["a", "c"], "c": ["c"]}) == ["c", "c"]


def test_the_critical_path_is_the_slowest_chain() -> None:
    seconds = [1.0, 5.0, 9.0, 1.0]
    assert critical_path([(), (0,), (0,), (1, 2)], seconds.__getitem__) == [0, 2, 3]
    seconds[1] = 10.0
    assert critical_path([(), (0,), (0,), (1, 2)], seconds.__getitem__) == [0, 1, 3]
    assert critical_path([], seconds.__getitem__) == []


def test_a_slow_stage_beside_the_chain_is_the_critical_path() -> None:
    assert critical_path([(), (0,), ()], [1.0, 1.0, 9.0].__getitem__) == [2]


def test_unknown_and_negative_times_count_as_nothing() -> None:
    assert critical_path([(), (0,)], lambda _: -1.0)[0] == 0


def test_a_chain_of_ten_thousand_needs_no_recursion() -> None:
    chain = [tuple(range(index - 1, index)) if index else () for index in range(10_000)]
    assert len(critical_path(chain, lambda _: 1.0)) == 10_000
    assert cycle_in(dict(enumerate(chain))) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=20))
def test_where_all_take_the_same_the_critical_path_is_a_longest_chain(drawn: list[list[int]]) -> None:
    children = [sorted({child for child in wanted if child < index}) for index, wanted in enumerate(drawn)]
    depths: list[int] = []
    for waits_for in children:
        depths.append(max((depths[child] for child in waits_for), default=0) + 1)
    path = critical_path(children, lambda _: 1.0)
    assert [depths[stage] for stage in path] == list(range(1, max(depths, default=0) + 1))
    assert all(child in children[parent] for child, parent in itertools.pairwise(path))
