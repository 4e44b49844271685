"""What the stories share: the sample clip over HTTP, and a project directory with processes of its own."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIPELINES = ROOT / "examples" / "pipelines"
CLIP = ROOT / "examples" / "assets" / "clip.mp4"
SPOKEN = ROOT / "examples" / "assets" / "clip.txt"

# As `flowq worker examples/pipelines/short_video.py` does: a file's neighbours can be imported by name.
if str(PIPELINES) not in sys.path:
    sys.path.insert(0, str(PIPELINES))

from clip_server import serving  # noqa: E402

from flowq.pipeline import registry  # noqa: E402

# The example's stages have the names of those that other tests define: they are known here only while it is imported.
_others = dict(registry._stages)
registry._stages.clear()
import short_video  # noqa: E402, F401

registry._stages.clear()
registry._stages.update(_others)

from tests.stories.project import Project, project_in  # noqa: E402


@pytest.fixture
def clip_url() -> Iterator[str]:
    """The sample clip, served over HTTP on this machine."""
    with serving(CLIP) as url:
        yield url


@pytest.fixture
def project() -> Iterator[Project]:
    """A project of its own for the test. Under /tmp by a short name: a socket's path has at most 100 characters."""
    directory = Path(tempfile.mkdtemp(prefix="fqp-", dir="/tmp"))
    with project_in(directory) as project:
        yield project
    shutil.rmtree(directory, ignore_errors=True)
