"""`flowq.testing`: stages run in a test as they run in a worker."""

from pathlib import Path

import pytest

from flowq import Artifact, context, stage
from flowq.errors import NoStageContext
from flowq.testing import stage_context


@stage
def shout(text: Artifact) -> Artifact:
    with text.local() as path, context().new_artifact("loud.txt") as sink:
        sink.write(path.read_bytes().upper())
        context().progress(1.0)
    return sink.artifact


def test_a_stage_reads_and_writes_artifacts_in_a_test(tmp_path: Path) -> None:
    with stage_context(tmp_path) as made:
        with made.new_artifact("quiet.txt") as sink:
            sink.write(b"hello")
        loud = shout.fn(sink.artifact)
        with loud.open() as stream:
            assert stream.read() == b"HELLO"
        assert [artifact.name for artifact in made.committed_artifacts()] == ["quiet.txt", "loud.txt"]


def test_without_a_stage_the_error_names_the_way_to_test() -> None:
    with pytest.raises(NoStageContext, match=r"flowq\.testing\.stage_context"):
        context()
