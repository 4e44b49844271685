"""From Nodes to a flow: collects the graph below a root, refuses what is none, and orders it children first.

Nothing here recurses: a chain may be 10,000 deep.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from flowq.errors import FlowHasCycle, InvalidValue, UnknownChild
from flowq.model.graph import cycle_in
from flowq.model.plan import Binding, PathStep
from flowq.model.spec import FlowSpec
from flowq.model.values import packed
from flowq.pipeline.compile import Call, compiled
from flowq.pipeline.holes import packed_apart
from flowq.pipeline.node import Node, NodeLike, node_from_mapping
from flowq.pipeline.options import StageOptions
from flowq.pipeline.registry import find_stage


def spec_from_node(root: NodeLike) -> FlowSpec[Any]:
    """The flow of the graph below a Node or mapping; its result is the root's.

    Raises:
        FlowHasCycle: names a shortest cycle.
        UnknownChild: a child named by text is no part of the graph.
        InvalidValue: a key, option or argument is wrong.
        DefinitionError: a cache for a stage that has a compensation.
        ValueNotStorable, ValueTooLarge: data can't be stored.
    """
    graph = _Graph(root)
    order = graph.in_order()
    position = {id(node): index for index, node in enumerate(order)}
    calls: list[Call] = []
    literals: dict[int, bytes] = {}
    for index, node in enumerate(order):
        data = graph.data[id(node)]
        bindings = tuple(Binding(into, position[id(child)]) for into, child in data.places)
        after = tuple((position[id(child)], False) for child in graph.after[id(node)])
        calls.append(Call(_options_of(node).template(node.name, node.stage), bindings, after))
        if (literal := _checked_literal(node, data)) != _NO_DATA:
            literals[index] = literal
    plan = compiled(order[-1].name, calls, (Binding((), len(order) - 1),))
    return FlowSpec(plan, literals, _identity(plan.digest, literals))


_NO_DATA = b"\x80"


class _Data(NamedTuple):
    """A node's data: the literal part packed and as it was given, and where in it which node's result goes."""

    literal: bytes
    values: dict[str, Any]
    places: list[tuple[tuple[PathStep, ...], Node]]


class _Graph:
    """All nodes below a root.

    Attributes:
        nodes: in the order they were met, by identity.
        data: a node's data, taken apart.
        after: the nodes that a node waits for without using their results.
    """

    def __init__(self, root: NodeLike) -> None:
        self.nodes: dict[int, Node] = {}
        self.data: dict[int, _Data] = {}
        self.after: dict[int, list[Node]] = {}
        self._mappings: dict[int, tuple[Mapping[str, Any], Node]] = {}
        self._collect(self._node(root))
        self._resolve_children()

    def in_order(self) -> list[Node]:
        """Every child before its parents, the root last; without recursion, chains may be 10,000 deep."""
        root = next(iter(self.nodes))
        order: list[Node] = []
        state: dict[int, int] = {}
        pending = [root]
        while pending:
            key = pending[-1]
            if state.get(key) is None:
                state[key] = _OPEN
                for child in reversed(self._children(key)):
                    if state.get(child) == _OPEN:
                        self._refuse_cycle()
                    if child not in state:
                        pending.append(child)
                continue
            pending.pop()
            if state[key] == _OPEN:
                state[key] = _DONE
                order.append(self.nodes[key])
        return order

    def _collect(self, root: Node) -> None:
        pending = [root]
        while pending:
            node = pending.pop()
            key = id(node)
            if key in self.nodes:
                continue
            self.nodes[key] = node
            self.data[key] = _data_apart(node, self._bound_mappings(node))
            children = [self._node(child) for child in node.children if not isinstance(child, str)]
            pending += reversed([child for _, child in self.data[key].places] + children)

    def _bound_mappings(self, node: Node) -> dict[str, Node]:
        # A mapping that stands in `children` and, as the same object, in `data` gives its result there, as a Node would.
        known = {id(child) for child in node.children if not isinstance(child, str | Node)}
        return {name: self._node(value) for name, value in node.data.items() if id(value) in known}

    def _node(self, given: object) -> Node:
        if isinstance(given, Node):
            return given
        if not isinstance(given, Mapping):
            raise InvalidValue("node", given, "a Node, or a mapping with name, queue, data, children, options")
        mapping = cast("Mapping[str, Any]", given)
        if id(mapping) not in self._mappings:
            self._mappings[id(mapping)] = (mapping, node_from_mapping(mapping))
        return self._mappings[id(mapping)][1]

    def _resolve_children(self) -> None:
        named: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            named.setdefault(node.name, []).append(node)
        for key, node in self.nodes.items():
            self.after[key] = [
                _named(node, child, named) if isinstance(child, str) else self._node(child) for child in node.children
            ]

    def _children(self, key: int) -> list[int]:
        return [id(child) for _, child in self.data[key].places] + [id(child) for child in self.after[key]]

    def _refuse_cycle(self) -> None:
        path = cycle_in({key: self._children(key) for key in self.nodes})
        raise FlowHasCycle([self.nodes[key].name for key in path or ()])


_OPEN, _DONE = 1, 2


def _data_apart(node: Node, bound: Mapping[str, Node]) -> _Data:
    places: list[tuple[tuple[PathStep, ...], Node]] = []
    values: dict[str, Any] = {}
    for name, value in node.data.items():
        child = bound.get(name, value)
        if type(child) is Node:
            places.append(((name,), child))
        else:
            values[name] = value
    literal, holes = packed_apart(values, node.name)
    for filled in holes:
        if type(filled.hole) is not Node:
            raise InvalidValue(f"data of {node.name}", filled.hole, "values and Nodes; promises belong into a pipeline's body")
        places.append((filled.into, filled.hole))
    return _Data(literal, values, places)


def _checked_literal(node: Node, data: _Data) -> bytes:
    """The literal arguments; of a stage this process knows, checked and with the defaults bound."""
    known = find_stage(node.stage)
    if known is None:
        return data.literal
    results = {str(into[0]) for into, _ in data.places}
    arguments = known.signature.bound((), dict.fromkeys(results) | data.values)
    known.signature.check({name: value for name, value in data.values.items() if name not in results})
    defaults = {name: value for name, value in arguments.items() if name not in data.values and name not in results}
    return packed_apart(data.values | defaults, node.name)[0] if defaults else data.literal


def _options_of(node: Node) -> StageOptions:
    known = find_stage(node.stage)
    return (known.options if known is not None else StageOptions()).changed(**node.options)


def _named(node: Node, child: str, named: Mapping[str, list[Node]]) -> Node:
    found = named.get(child, [])
    if not found:
        nearest = difflib.get_close_matches(child, [name for name in named if name != node.name], 1)
        raise UnknownChild(node.name, child, nearest[0] if nearest else None)
    if len(found) > 1:
        raise InvalidValue(f"child of {node.name}", child, f"a name that one node has; {len(found)} nodes are called {child!r}")
    return found[0]


def _identity(plan_digest: str, literals: Mapping[int, bytes]) -> bytes:
    """The inputs of a flow without a pipeline: what identifies its work, in a few bytes whatever the graph's size."""
    digest = hashlib.sha256(plan_digest.encode())
    for index, literal in literals.items():
        digest.update(b"%d:%d:" % (index, len(literal)) + literal)
    return packed({"graph": digest.hexdigest()[:32]}, "node", "graph")
