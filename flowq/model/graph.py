"""Questions about a graph: its cycles and its critical path. The one importer of networkx, which it loads when asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import networkx as nx

    Graph = nx.DiGraph[Any]


def _digraph(children_of: Mapping[Any, Iterable[Any]]) -> Graph:
    import networkx as nx  # 136 ms: only who asks about a graph pays for it

    graph: Graph = nx.DiGraph()
    graph.add_nodes_from(children_of)
    graph.add_edges_from((child, parent) for parent, children in children_of.items() for child in children)
    return graph


def cycle_in(children_of: Mapping[Any, Iterable[Any]]) -> list[Any] | None:
    """A shortest cycle as a path whose first node is repeated at its end, from parent to child; None if there is none."""
    import networkx as nx

    graph = _digraph(children_of)
    if nx.is_directed_acyclic_graph(graph):
        return None
    # Any shortest cycle lies within one strongly connected component; the smallest component keeps the search cheap.
    knots = [knot for knot in nx.strongly_connected_components(graph) if len(knot) > 1 or graph.has_edge(*(list(knot) * 2))]
    knot = graph.subgraph(min(knots, key=len)).reverse(copy=True)
    best: list[Any] | None = None
    for start in list(knot)[:50]:
        for successor in knot.successors(start):
            path: list[Any] = [start, *cast("Any", nx).shortest_path(knot, successor, start)]
            if best is None or len(path) < len(best):
                best = path
    return best


def critical_path(children_of: Sequence[Sequence[int]], seconds_of: Callable[[int], float]) -> list[int]:
    """The chain of stages that decides how long the flow takes.

    Needs `children_of` in topological order, and is linear: networkx's own longest path wants weights on edges, and
    `flowq inspect` would pay 136 ms for the import.
    """
    longest: list[float] = []
    came_from: list[int | None] = []
    for index, children in enumerate(children_of):
        slowest = max(children, key=longest.__getitem__, default=None)
        longest.append(max(0.0, seconds_of(index)) + (longest[slowest] if slowest is not None else 0.0))
        came_from.append(slowest)
    if not longest:
        return []
    step: int | None = max(range(len(longest)), key=longest.__getitem__)
    path: list[int] = []
    while step is not None:
        path.append(step)
        step = came_from[step]
    return path[::-1]
