"""Folders of attempts, and locations: what is written can be read back, what is not flowq's is not taken for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.artifacts import open_storage, parse, stage_folder
from flowq.artifacts.directory import DirectoryStorage
from flowq.artifacts.keys import check_artifact_name, tidy_name
from flowq.artifacts.s3 import S3Storage
from flowq.errors import ArtifactNameInvalid, InvalidValue

FLOW_IDS = st.from_regex(r"[A-Za-z0-9][!-\[\]-z|~]{0,80}", fullmatch=True)
STAGES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,40}(\[[0-9]{1,6}\])?", fullmatch=True)


@given(FLOW_IDS, STAGES, st.sampled_from(["", "prefix", "a/b"]))
def test_a_folder_is_parsed_back(flow_id: str, stage: str, prefix: str) -> None:
    key = "/".join(part for part in (prefix, stage_folder(flow_id, stage, "12:nonce-_1"), "video.mp4") if part)
    folder = parse(key, prefix)
    assert folder is not None
    assert (folder.flow_id, folder.stage, folder.token, folder.name) == (flow_id, stage, "12:nonce-_1", "video.mp4")
    assert folder.id == (flow_id, stage, "12:nonce-_1")


@given(st.text())
def test_any_text_is_parsed_or_not_but_never_raises(key: str) -> None:
    folder = parse(key)
    assert folder is None or key == f"{stage_folder(*folder.id)}/{folder.name}"


@pytest.mark.parametrize("key", [
    "flow/stage/1-a", "flow/stage/1-a/x/y", "%41/stage/1-a/x", "a:b/stage/1-a/x", "flow/stage//x", "uploads/1/talk.mp4",
    "flow/stage/../x", "flow/stage/1-a/..", "%2e%2e/stage/1-a/x", "flow/%2e%2e/1-a/x", "other/flow/stage/1-a/x",
])  # fmt: skip
def test_what_flowq_did_not_write_is_not_parsed(key: str) -> None:
    assert parse(key) is None


def test_keys_outside_the_prefix_are_not_parsed() -> None:
    assert parse("flow/stage/1-a/x", "prefix") is None
    assert parse("prefixed/flow/stage/1-a/x", "prefix") is None


@pytest.mark.parametrize("parts", [
    ("../x", "s", "1"), ("f", "..", "1"), ("f", "", "1"), ("f", "s", ""), ("f", "s", "a/b"), ("", "s", "1"),
])  # fmt: skip
def test_a_folder_of_hostile_parts_is_refused(parts: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidValue):
        stage_folder(*parts)


@given(st.text())
def test_a_tidied_name_is_always_allowed(name: str) -> None:
    assert check_artifact_name(tidy_name(name))


def test_names_keep_what_they_may_hold() -> None:
    assert check_artifact_name("My_talk-(1),v=2@x+y.mp4")
    with pytest.raises(ArtifactNameInvalid, match="'a/b'"):
        check_artifact_name("a/b")


@pytest.mark.parametrize("location", [
    "", "media", "s3:", "s3://", "s3:///x", "s3://a", "s3://bu cket", "s3://arn:aws:s3/x", "s3://media/../x", "s3://media//x",
    "s3:media", "file:", "file://host/x", "file:a\nb", "http://media", "/srv/media", "S3://media",
])  # fmt: skip
def test_a_junk_location_is_refused_with_an_example(location: str) -> None:
    with pytest.raises(InvalidValue, match="s3://bucket/prefix"):
        open_storage(location)


def test_locations_are_told_apart() -> None:
    s3 = open_storage("s3://media/flows/")
    assert isinstance(s3, S3Storage)
    assert (s3.location, s3.prefix) == ("s3://media/flows", "flows")
    assert open_storage("s3://media").prefix == ""
    for location in ("file:/srv/media", "file:///srv/media"):
        assert open_storage(location).location == "file:/srv/media"
    relative = open_storage("file:media")
    assert isinstance(relative, DirectoryStorage)
    assert relative.location == f"file:{Path.cwd() / 'media'}"


def test_a_folder_of_its_own_lies_inside_the_location_and_is_not_shown_as_typed() -> None:
    assert open_storage("s3://media/flows/", folder="app").location == "s3://media/flows/app"
    assert open_storage("s3://media", folder="app").location == "s3://media/app"
    assert open_storage("file:/srv/media/", folder="app").location == "file:/srv/media/app"
    with pytest.raises(InvalidValue, match="artifacts is 's3://';"):
        open_storage("s3://", folder="app")


def test_boto3_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, flowq.artifacts as a; a.open_storage('s3://media'); assert not {'boto3', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path(__file__).parents[2])})
