"""Where stages stand in the tree of `flowq inspect`."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from flowq.cli.render import tree


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    size = draw(st.integers(1, 14))
    return [sorted(draw(st.sets(st.integers(0, index - 1), max_size=4))) if index else [] for index in range(size)]


def drawn(children_of: list[list[int]], names: str) -> list[str]:
    return [row.prefix + names[row.members[0]] for row in tree.rows(children_of)]


@given(graphs())
def test_dominators_are_those_that_networkx_finds(children_of: list[list[int]]) -> None:
    graph = nx.DiGraph()
    graph.add_node(0)
    for index, children in enumerate(children_of):
        graph.add_edges_from((child + 1, index + 1) for child in children or [-1])
    expected = nx.immediate_dominators(graph, 0)
    assert tree.dominators(children_of) == [expected[index + 1] for index in range(len(children_of))]


@given(graphs())
def test_every_stage_is_drawn_once_and_below_what_it_waits_for(children_of: list[list[int]]) -> None:
    order = [row.members[0] for row in tree.rows(children_of)]
    assert sorted(order) == list(range(len(children_of)))
    place = {index: position for position, index in enumerate(order)}
    dominators = tree.dominators(children_of)
    assert all(place[above - 1] < place[index] for index, above in enumerate(dominators) if above)


def test_a_chain_stays_at_one_indentation() -> None:
    assert drawn([[], [0], [1], [2]], "abcd") == ["a", "↓ b", "↓ c", "↓ d"]


def test_a_join_stands_where_its_branches_parted() -> None:
    assert drawn([[], [0], [0], [2], [1, 3]], "abcde") == ["a", "├ b", "├ c", "│ ↓ d", "└ e"]


def test_a_join_of_two_roots_is_a_root() -> None:
    assert drawn([[], [], [0, 1]], "abc") == ["a", "b", "c"]


def test_like_stages_fold_and_those_worth_seeing_are_picked() -> None:
    children_of = [[], *[[0]] * 5, [1, 2, 3, 4, 5]]
    rows = tree.folded(children_of, lambda index: "saaaaaj"[index], lambda group: [3])
    assert [(row.prefix, row.members, row.is_pick) for row in rows] == [
        ("", (0,), False),
        ("├ ", (1, 2, 3, 4, 5), False),
        ("│     ", (3,), True),
        ("└ ", (6,), False),
    ]


def test_chains_that_ran_side_by_side_fold_stage_by_stage() -> None:
    children_of = [[], [0], [0], [1], [2]]
    rows = tree.folded(children_of, lambda index: "saabb"[index], lambda group: [])
    assert [row.members for row in rows] == [(0,), (1, 2), (3, 4)]


def test_two_long_chains_with_many_joins_are_no_burden() -> None:
    """Without jump pointers it would be 400 million steps, longer than any test may last."""
    children_of: list[list[int]] = [[], [0], [0]]
    for index in range(3, 40_000):
        children_of.append([index - 2])
    children_of += [[39_998, 39_999]] * 8_000
    assert tree.dominators(children_of)[-1] == 1


def test_the_lines_of_the_tree_go_on_beside_a_note() -> None:
    assert tree.Row("│ ├ ", (0,)).below == "│ │ "
    assert tree.Row("│ └ ", (0,)).below == "│   "
    assert tree.Row("| v ", (0,)).below == "|   "
