"""`-i key=value` and `--input-json`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from flowq.cli.inputs import pipeline_arguments
from flowq.cli.usage import UsageError
from flowq.errors import InvalidValue
from flowq.model.artifact import Artifact


class Codec(Enum):
    H264 = "h264"


class Size(msgspec.Struct):
    width: int
    height: int


def sample(
    url: str,
    height: int = 720,
    ratio: float = 1.0,
    draft: bool = False,
    codec: Codec = Codec.H264,
    size: Size | None = None,
    tags: list[str] = [],  # noqa: B006  only its annotation matters
    mode: Literal["fast", "good"] = "fast",
    source: Artifact | None = None,
    loose=None,
) -> None: ...


def only(pair: str, **more: Any) -> Any:
    name = pair.partition("=")[0]
    return pipeline_arguments(sample, ["url=x", pair], None)[name]


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("url=123", "123"),
        ("url=a=b=c", "a=b=c"),
        ("url=", ""),
        ("height=480", 480),
        ("ratio=1.5", 1.5),
        ("draft=true", True),
        ("draft=1", True),
        ("codec=h264", Codec.H264),
        ('size={"width": 1, "height": 2}', Size(1, 2)),
        ("size=null", None),
        ('tags=["a", "b"]', ["a", "b"]),
        ("mode=good", "good"),
        ("loose=12", 12),
        ("loose=hello", "hello"),
        ("loose=[1]", [1]),
    ],
)
def test_values_are_typed_by_the_annotation(pair: str, value: object) -> None:
    assert only(pair) == value


def test_an_artifact_may_be_given_by_its_key() -> None:
    def of_artifact(source: Artifact) -> None: ...

    assert pipeline_arguments(of_artifact, ["source=s3://b/k.mp4"], None) == {"source": Artifact("s3://b/k.mp4")}


@pytest.mark.parametrize("pair", ["height=tall", "ratio=x", "draft=maybe", "codec=vp9", "mode=best", "size=[1]", "tags=a"])
def test_a_value_of_the_wrong_type_names_the_input(pair: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        only(pair)
    assert f"input {pair.partition('=')[0]}" in caught.value.problem


def test_an_unknown_input_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match="height"):
        pipeline_arguments(sample, ["url=x", "hieght=1"], None)


def test_missing_inputs_are_all_named() -> None:
    def two(first: int, second: int, third: int = 3) -> None: ...

    with pytest.raises(UsageError, match="needs first, second"):
        pipeline_arguments(two, [], None)


def test_a_pair_without_an_equals_sign_is_refused() -> None:
    with pytest.raises(UsageError, match="key=value"):
        pipeline_arguments(sample, ["url"], None)


def test_json_comes_as_text_or_from_a_file_and_pairs_win_over_it(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"url": "a", "height": 5}')
    assert pipeline_arguments(sample, [], '{"url": "a"}') == {"url": "a"}
    assert pipeline_arguments(sample, ["height=6"], f"@{tmp_path / 'in.json'}") == {"url": "a", "height": 6}


@pytest.mark.parametrize("name", ["nofile", ".", ""])
def test_a_file_that_can_not_be_read_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="names the file"):
        pipeline_arguments(sample, [], f"@{name}")


@pytest.mark.parametrize("source", ["", "{", "[1]", "null", "NaN", '{"a": NaN}', "[" * 100_000])
def test_what_is_no_json_object_is_refused(source: str) -> None:
    with pytest.raises(UsageError, match="--input-json"):
        pipeline_arguments(sample, [], source)


@pytest.mark.parametrize("pair", ["url=caf\udce9", "height=4\udce9", 'size={"width": "\udce9"}', "loose=\udce9"])
def test_bytes_that_are_no_text_are_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="is no UTF-8") as refused:
        only(pair)
    assert str(refused.value).isascii()
