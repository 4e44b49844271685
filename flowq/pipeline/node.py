"""`Node`: graphs made at run time. One Node is one stage, under however many parents it stands.

Nodes inside `data` bind their results by name; `children` only orders. Plain mappings of the same keys are taken, too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast

from flowq.errors import InvalidValue
from flowq.model.duration import Duration
from flowq.model.names import check_name
from flowq.model.retry import Backoff
from flowq.pipeline.options import StageOptions
from flowq.pipeline.promise import Hole

_NODE_KEYS = ("name", "stage", "queue", "data", "children", "options")
_OPTION_KEYS = ("attempts", "backoff", "timeout", "priority", "isolation", "delay", "stall", "version", "cache")


class Node(Hole):
    """A stage of a graph that is made at run time.

    Attributes:
        name: its name in the flow; the second of that name becomes `name-2`.
        stage: the stage that does the work.
        data: its arguments; Nodes inside stand for their results.
        children: Nodes, mappings or names of Nodes of this flow that must complete first; their results are not passed.
        options: what was given; the rest is the stage's own if this process knows it, else the defaults.
    """

    __slots__ = ("children", "data", "name", "options", "stage")

    def __init__(
        self,
        name: str,
        *,
        stage: str | None = None,
        queue: str | None = None,
        data: Mapping[str, Any] | None = None,
        children: Iterable[NodeLike | str] = (),
        attempts: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        stall: Duration | None = None,
        version: str | None = None,
        cache: Duration | Literal[False] | None = None,
    ) -> None:
        """
        Args:
            name: the stage's name in the flow.
            stage: the stage that does the work; default: the one called `name`.
            queue, attempts, backoff, timeout, priority, stall, version, cache: as in `@stage`; `cache=False`: it always runs.
            delay: how long it waits after its release.
            data: the arguments by name.
            children: what must complete first.

        Raises:
            InvalidValue: an option is out of range.
        """
        given: dict[str, object] = {
            "queue": queue, "attempts": attempts, "backoff": backoff, "timeout": timeout, "priority": priority,
            "delay": delay, "stall": stall, "version": version, "cache": cache,
        }  # fmt: skip
        self.name = check_name(name, "node name")
        self.stage = self.name if stage is None else check_name(stage, "stage name")
        self.options = {option: value for option, value in given.items() if value is not None}
        StageOptions().changed(**self.options)
        self.data: dict[str, Any] = _checked_data(self.name, data)
        self.children: list[NodeLike | str] = _checked_children(self.name, children)

    def __repr__(self) -> str:
        return f"<Node {self.name}>"


NodeLike: TypeAlias = Node | Mapping[str, Any]


def node_from_mapping(mapping: Mapping[str, Any]) -> Node:
    """The Node that a mapping of `name`, `stage`, `queue`, `data`, `children` and `options` describes.

    Raises:
        InvalidValue: a key or value is wrong.
    """
    _refuse_unknown_keys("node", mapping, _NODE_KEYS)
    if "name" not in mapping:
        raise InvalidValue("node", mapping, f"a mapping with a name and, as needed, {', '.join(_NODE_KEYS[1:])}")
    options: Any = {} if mapping.get("options") is None else mapping["options"]
    if not isinstance(options, Mapping):
        raise InvalidValue(f"options of node {mapping['name']!r}", options, f"a mapping with {', '.join(_OPTION_KEYS)}")
    options = cast("Mapping[str, Any]", options)
    _refuse_unknown_keys(f"options of node {mapping['name']!r}", options, _OPTION_KEYS)
    node = Node(
        mapping["name"],
        stage=mapping.get("stage"),
        queue=mapping.get("queue"),
        data=mapping.get("data"),
        children=() if mapping.get("children") is None else mapping["children"],
    )
    node.options |= {name: _option(name, value) for name, value in options.items() if value is not None}
    StageOptions().changed(**node.options)
    return node


def _option(name: str, value: Any) -> Any:
    # Plain data has no Backoff: a duration means waiting that long, doubled each time.
    return Backoff.exponential(value) if name == "backoff" and not isinstance(value, Backoff) else value


def _checked_data(name: str, data: object) -> dict[str, Any]:
    if data is None:
        return {}
    mapping = cast("Mapping[Any, Any]", data)
    if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in mapping):
        raise InvalidValue(f"data of {name}", mapping, "a mapping from argument names to values")
    return dict(mapping)


def _checked_children(name: str, children: object) -> list[Any]:
    if isinstance(children, str | bytes | Mapping | Node) or not isinstance(children, Iterable):
        raise InvalidValue(f"children of {name}", cast("Any", children), "a list of Nodes, mappings or names")
    return list(cast("Iterable[Any]", children))


def _refuse_unknown_keys(field: str, mapping: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in mapping:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, 1)
            raise InvalidValue(f"key of {field}", key, f"{nearest[0]!r}" if nearest else f"one of {', '.join(known)}")
