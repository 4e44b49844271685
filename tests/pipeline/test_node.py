"""Graphs made at run time: Nodes and plain mappings, and every graph that is none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flowq.errors import FlowHasCycle, InvalidValue, UnknownChild, WrongArguments
from flowq.model.plan import Binding
from flowq.model.retry import Backoff
from flowq.pipeline import Node, pipeline, spec_from_node
from tests.pipeline.short_video import download, store

decode = msgspec.msgpack.decode


def shape(spec: Any) -> dict[str, list[str]]:
    """Stage name → names of its children."""
    stages = spec.plan.stages
    return {planned.name: [stages[child].name for child in planned.children] for planned in stages}


def test_nodes_in_data_bind_results_by_name_and_children_only_order() -> None:
    video = Node("cut", queue="cpu", data={"height": 720})
    captions = Node("hear", queue="gpu")
    clean = Node("clean")
    spec = spec_from_node(Node("merge", queue="video", data={"video": video, "captions": captions, "n": 1}, children=[clean]))
    assert shape(spec) == {"cut": [], "hear": [], "clean": [], "merge": ["cut", "hear", "clean"]}
    merge = spec.plan.stages[3]
    assert merge.bindings == (Binding(("video",), 0), Binding(("captions",), 1))
    assert merge.queue == "video"
    assert {index: decode(data) for index, data in spec.literals.items()} == {0: {"height": 720}, 3: {"n": 1}}
    assert spec.plan.output == (Binding((), 3),)
    assert spec.plan.pipeline == "merge"


def test_nodes_deep_inside_data_leave_holes() -> None:
    spec = spec_from_node(Node("merge", data={"all": [{"a": Node("one")}, Node("two"), 3]}))
    assert [binding.into for binding in spec.plan.stages[2].bindings] == [("all", 0, "a"), ("all", 1)]
    assert decode(spec.literals[2]) == {"all": [{"a": None}, None, 3]}


def test_one_node_under_two_parents_is_one_stage() -> None:
    source = Node("fetch", data={"url": "u"})
    spec = spec_from_node(Node("gather", children=[Node("left", data={"s": source}), Node("right", data={"s": source})]))
    assert shape(spec) == {"fetch": [], "left": ["fetch"], "right": ["fetch"], "gather": ["left", "right"]}


def test_nodes_of_one_name_are_numbered_and_keep_their_stage() -> None:
    spec = spec_from_node(Node("gather", children=[Node("cut", data={"n": n}) for n in range(3)]))
    assert [planned.name for planned in spec.plan.stages[:3]] == ["cut", "cut-2", "cut-3"]
    assert {planned.stage for planned in spec.plan.stages[:3]} == {"cut"}


def test_a_node_may_be_named_apart_from_its_stage() -> None:
    planned = spec_from_node(Node("last-step", stage="finish")).plan.stages[0]
    assert (planned.name, planned.stage) == ("last-step", "finish")


def test_a_node_of_a_known_stage_has_its_options_unless_it_says_otherwise() -> None:
    planned = spec_from_node(Node("download", data={"url": "u"})).plan.stages[0]
    assert (planned.queue, planned.attempts, planned.timeout_ms) == ("network", 5, 600_000)
    planned = spec_from_node(Node("download", queue="q", attempts=2, priority=3, data={"url": "u"})).plan.stages[0]
    assert (planned.queue, planned.attempts, planned.priority, planned.timeout_ms) == ("q", 2, 3, 600_000)


def test_a_node_of_a_known_stage_has_its_data_checked() -> None:
    with pytest.raises(WrongArguments, match=r"download\(\) lacks its argument 'url'"):
        spec_from_node(Node("download"))
    with pytest.raises(InvalidValue, match=r"download\.url is 3"):
        spec_from_node(Node("download", data={"url": 3}))
    spec_from_node(Node("download", data={"url": Node("elsewhere")}))
    spec = spec_from_node(Node("encode", data={"source": Node("elsewhere")}))
    assert decode(spec.literals[1]) == {"height": 720}


def test_a_plain_mapping_says_the_same_as_nodes() -> None:
    mapping = {
        "name": "merge",
        "queue": "video",
        "data": {"n": 1},
        "children": [
            {"name": "cut", "data": {"height": 720}, "options": {"attempts": 3, "backoff": "2s", "timeout": "5m", "priority": 1}},
            {"name": "hear", "stage": "listen", "options": {"isolation": "process"}, "children": ["cut"]},
        ],
    }
    spec = spec_from_node(mapping)
    assert shape(spec) == {"cut": [], "hear": ["cut"], "merge": ["cut", "hear"]}
    cut, hear = spec.plan.stages[:2]
    assert (cut.attempts, cut.backoff, cut.timeout_ms, cut.priority) == (3, Backoff.exponential("2s"), 300_000, 1)
    assert (hear.stage, hear.isolation) == ("listen", "process")


def test_the_same_mapping_in_data_and_children_binds_its_result() -> None:
    cut = {"name": "cut"}
    merge = spec_from_node({"name": "merge", "data": {"video": cut, "other": {"name": "x"}}, "children": [cut]}).plan.stages[1]
    assert merge.bindings == (Binding(("video",), 0),)


def test_the_same_graph_has_the_same_identity_and_other_data_another() -> None:
    def identity(height: int) -> bytes:
        return spec_from_node(Node("merge", data={"video": Node("cut", data={"height": height})})).fingerprint

    assert identity(720) == identity(720)
    assert identity(720) != identity(480)


def test_a_cycle_is_refused_with_a_shortest_path() -> None:
    first, second, third = Node("a"), Node("b"), Node("c")
    first.children.append(second)
    second.data["x"] = third
    third.children.append(first)
    second.children.append(first)
    with pytest.raises(FlowHasCycle, match=r"flow has a cycle: (a → b → a|b → a → b); remove one of these edges"):
        spec_from_node(first)


def test_a_node_that_waits_for_itself_is_refused() -> None:
    for into in ("children", "data"):
        node = Node("selfish")
        if into == "children":
            node.children.append(node)
        else:
            node.data["x"] = [node]
        with pytest.raises(FlowHasCycle, match="selfish → selfish"):
            spec_from_node(node)
    with pytest.raises(FlowHasCycle, match="a → a"):
        spec_from_node({"name": "a", "children": ["a"]})


def test_a_mapping_that_names_an_ancestor_is_a_cycle() -> None:
    with pytest.raises(FlowHasCycle, match="→"):
        spec_from_node({"name": "a", "children": [{"name": "b", "children": [{"name": "c", "children": ["a"]}]}]})


def test_a_cycle_of_ten_thousand_is_found() -> None:
    nodes = [Node(f"n{number}") for number in range(10_000)]
    for number, node in enumerate(nodes):
        node.children.append(nodes[(number + 1) % 10_000])
    first = nodes[0]
    with pytest.raises(FlowHasCycle) as refused:
        spec_from_node(first)
    assert len(refused.value.path) == 10_001


def test_an_unknown_child_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownChild, match=r"'merge' waits for 'compres', which is no stage.*did you mean 'compress'"):
        spec_from_node({"name": "merge", "children": ["compres", {"name": "compress"}]})
    with pytest.raises(UnknownChild, match="add it to the graph"):
        spec_from_node({"name": "merge", "children": ["zzz"]})


def test_a_name_that_two_nodes_have_is_no_reference() -> None:
    with pytest.raises(InvalidValue, match="2 nodes are called 'cut'"):
        spec_from_node({"name": "m", "children": [{"name": "cut"}, {"name": "cut"}, {"name": "x", "children": ["cut"]}]})


def test_a_mapping_without_a_name_is_told_what_it_needs() -> None:
    for mapping in ({}, {"data": {}}):
        with pytest.raises(InvalidValue, match="expected a mapping with a name and, as needed, stage, queue, data"):
            spec_from_node(mapping)


@pytest.mark.parametrize("key", ["children", "options"])
@pytest.mark.parametrize("value", [0, False, "", "ab"])
def test_an_empty_value_of_a_wrong_type_is_no_absent_one(key: str, value: Any) -> None:
    with pytest.raises(InvalidValue, match=f"{key} of"):
        spec_from_node({"name": "x", key: value})


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"queue": "x"}, "a mapping with a name"),
        ({"name": "x", "que": "y"}, "key of node is 'que'; expected 'queue'"),
        ({"name": "x", "options": {"atempts": 3}}, "'atempts'; expected 'attempts'"),
        ({"name": "x", "options": [1]}, "options of node 'x'"),
        ({"name": "x", "options": {"attempts": 0}}, "attempts is 0"),
        ({"name": "a b"}, "node name"),
        ({"name": 3}, "node name"),
        ({"name": "x", "queue": "a b"}, "queue"),
        ({"name": "x", "data": [1]}, "data of x"),
        ({"name": "x", "data": {1: 2}}, "data of x"),
        ({"name": "x", "children": "y"}, "children of x"),
        ({"name": "x", "children": {"name": "y"}}, "children of x"),
        ({"name": "x", "children": [3]}, "node is 3; expected a Node"),
        ({"name": "x", "children": [None]}, "node is None"),
        (3, "node is 3"),
    ],
)
def test_a_mapping_that_is_no_node_is_refused(mapping: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        spec_from_node(mapping)


def test_promises_and_nodes_do_not_mix() -> None:
    kept: list[Any] = []

    @pipeline
    def with_node() -> Any:
        kept.append(download("u"))
        return store([Node("x")])

    with pytest.raises(InvalidValue, match=r"store\.value is <Node x>"):
        with_node()
    for data in ({"a": kept[0]}, {"a": [kept[0]]}):
        with pytest.raises(InvalidValue, match="promises belong into a pipeline's body"):
            spec_from_node(Node("y", data=data))


def test_a_chain_of_ten_thousand_nodes_works() -> None:
    node = Node("step")
    for _ in range(9_999):
        node = Node("step", data={"previous": node})
    plan = spec_from_node(node).plan
    assert len(plan.stages) == 10_000
    assert plan.stages[-1].children == (9_998,)
    mapping: dict[str, Any] = {"name": "step"}
    for _ in range(9_999):
        mapping = {"name": "step", "children": [mapping]}
    assert len(spec_from_node(mapping).plan.stages) == 10_000


def test_a_fan_of_a_hundred_thousand_nodes_works() -> None:
    """In time proportional to its size: comparing each with each would last longer than any test may."""
    plan = spec_from_node(Node("gather", children=[Node("step") for _ in range(100_000)])).plan
    assert len(plan.stages[-1].children) == 100_000
    assert plan.stages[-2].name == "step-100000"
