"""What `add` accepts, and what it says to everything else."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from flowq.errors import NotAFlow
from flowq.model.artifact import Artifact
from flowq.pipeline import Node, pipeline, to_spec
from tests.pipeline.short_video import download, encode, labels, short_video


def test_a_flow_is_itself() -> None:
    spec = short_video("u")
    assert to_spec(spec) is spec
    assert to_spec(download.flow("u")).plan.pipeline == "download"


def test_nodes_and_mappings_are_flows() -> None:
    assert to_spec(Node("x")).plan.pipeline == "x"
    assert to_spec({"name": "x"}).plan.pipeline == "x"


def test_a_coroutine_of_a_stage_is_closed_and_explained() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "never awaited" would be a second, confusing message
        with pytest.raises(NotAFlow, match=r"download ran here; use download\.flow\(…\)"):
            to_spec(download("u"))  # type: ignore[call-overload]


def test_the_value_of_a_stage_that_ran_here_is_explained() -> None:
    with pytest.raises(NotAFlow, match=r"encode ran here; use encode\.flow\(…\)"):
        to_spec(encode(Artifact("a")))  # type: ignore[call-overload]
    plain: Any = labels(Artifact("a"))
    with pytest.raises(NotAFlow, match=r"labels ran here"):
        to_spec(plain)


def test_a_coroutine_that_is_no_stage_is_closed_too() -> None:
    async def other() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NotAFlow, match="other ran here"):
            to_spec(other())  # type: ignore[call-overload]


def test_a_stage_or_pipeline_that_was_not_called_is_explained() -> None:
    with pytest.raises(NotAFlow, match=r"call it: encode\.flow\(source, height\)"):
        to_spec(encode)  # type: ignore[call-overload]
    with pytest.raises(NotAFlow, match=r"call it: short_video\(url, height\)"):
        to_spec(short_video)  # type: ignore[call-overload]


@pytest.mark.parametrize("value", [None, 3, "short_video", b"x", [short_video], object()])
def test_anything_else_is_no_flow(value: Any) -> None:
    with pytest.raises(NotAFlow, match=r"is no flow; give it a pipeline's call"):
        to_spec(value)


def test_a_promise_is_no_flow() -> None:
    @pipeline
    def adding() -> Any:
        return to_spec(download("u"))  # type: ignore[call-overload]

    with pytest.raises(NotAFlow, match="promise of a pipeline's body"):
        adding()
