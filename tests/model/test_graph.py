"""Cycles, order, layers and the critical path."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from flowq.model.graph import critical_path, cycle_in, layers, topological


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


def test_order_puts_children_first_and_keeps_the_given_order_otherwise() -> None:
    assert topological({"last": ["b", "a"], "b": [], "a": ["b"], "free": []}) == ["b", "a", "last", "free"]


def test_layers_wait_only_for_earlier_layers() -> None:
    # download → (encode ∥ transcribe) → finalize, and one that waits for nothing
    assert layers([(), (0,), (0,), (1, 2), ()]) == [[0, 4], [1, 2], [3]]
    assert layers([]) == []


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
    assert len(layers(chain)) == 10_000
    assert len(critical_path(chain, lambda _: 1.0)) == 10_000
    assert len(topological(dict(enumerate(chain)))) == 10_000
    assert cycle_in(dict(enumerate(chain))) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), max_size=4), max_size=20))
def test_layers_and_order_agree_for_any_graph(drawn: list[list[int]]) -> None:
    children = [sorted({child for child in wanted if child < index}) for index, wanted in enumerate(drawn)]
    layer_of = {stage: depth for depth, layer in enumerate(layers(children)) for stage in layer}
    for stage, waits_for in enumerate(children):
        assert layer_of[stage] == max((layer_of[child] + 1 for child in waits_for), default=0)
    path = critical_path(children, lambda _: 1.0)
    assert len(path) == max(layer_of.values(), default=-1) + 1
