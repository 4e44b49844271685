"""What identifies a computation: stage, version, code, and inputs by content."""

from __future__ import annotations

from typing import Any

import pytest

from flowq.model.artifact import Artifact
from flowq.model.memo import artifacts_in, memo_digest

SHA, OTHER_SHA = "a" * 64, "b" * 64


def plain(key: str, checksum: str = SHA, **more: Any) -> dict[str, Any]:
    """An artifact as plain data."""
    return {"key": key, "size": 3, "content_type": "text/plain", "checksum": checksum} | more


def digest(inputs: Any) -> str:
    return memo_digest("encode", "1", "code", inputs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"source": plain("x/1/a.txt")}, {"source": plain("y/2/b.txt")}),
        ({"all": [{"in": plain("x")}]}, {"all": [{"in": plain("y", content_type="image/png")}]}),
        ({"pair": (1, 2)}, {"pair": [1, 2]}),
    ],
)
def test_what_has_the_same_content_is_the_same(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"source": plain("x")}, {"source": plain("x", OTHER_SHA)}),
        ({"source": plain("x", "")}, {"source": plain("y", "")}),
        ({"source": plain("x")}, {"source": plain("x", more=1)}),
        ({"source": plain("x", size="3")}, {"source": plain("y", size="3")}),
    ],
)
def test_what_has_other_content_is_not(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_stage_version_and_code_count_each_for_itself() -> None:
    named = {
        ("encode", "1", "code"),
        ("decode", "1", "code"),
        ("encode", "2", "code"),
        ("encode", "1", "text"),
        ("encode", "1c", "ode"),
    }
    assert len({memo_digest(*names, {"a": 1}) for names in named}) == len(named)


def test_artifacts_are_found_wherever_they_are() -> None:
    value = {"video": plain("v"), "more": [{"deep": (plain("w", ""), 1)}, "text", None], "no": plain("n", size=None)}
    assert list(artifacts_in(value)) == [Artifact("v", 3, "text/plain", SHA), Artifact("w", 3, "text/plain", "")]
