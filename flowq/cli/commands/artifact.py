"""`flowq artifact FLOW_ID STAGE [NAME]`."""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from flowq.cli import exits
from flowq.cli.report import note
from flowq.cli.session import add_flow_id, found, output_of, producer_of, run_async, say_json
from flowq.cli.usage import ArtifactNotFound, UsageError
from flowq.errors import ArtifactCorrupt, ArtifactNameInvalid, StageNotFound

if TYPE_CHECKING:
    from flowq.model.artifact import Artifact
    from flowq.model.snapshot import FlowSnapshot

_CHUNK_BYTES = 1 << 20
_NAMES_MAX = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser)
    parser.add_argument("stage", metavar="STAGE", help="name of the stage")
    parser.add_argument("name", metavar="NAME", nargs="?", help="name of the artifact; may be left out when there is one")
    parser.add_argument("-O", "--out", metavar="FILE", help="where to put it; `-` for stdout (default: its own name, here)")
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument(
        "--show-url", metavar="DURATION", nargs="?", const="1h", help="print a URL that works this long (default: 1h)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Downloads an artifact, checked against its checksum."""
    output_of(arguments)
    return run_async(lambda: _artifact(arguments))


async def _artifact(arguments: argparse.Namespace) -> int:
    async with producer_of(arguments) as producer:
        flow_id = await found(producer, arguments)
        artifact = _chosen(await producer.flow(flow_id).inspect(), arguments.stage, arguments.name)
        if arguments.show_url is not None:
            print(producer.storage.url(artifact, arguments.show_url))
        elif arguments.out == "-":
            with producer.storage.open(artifact) as source:
                _copy(source, sys.stdout.buffer, artifact)
        else:
            path = _target(arguments, artifact)
            with producer.storage.open(artifact) as source:
                _download(source, path, artifact)
            _tell(arguments, artifact, path)
    return exits.OK


def _chosen(snapshot: FlowSnapshot, stage: str, name: str | None) -> Artifact:
    """The one artifact that the stage, or a pattern such as `encode*`, and the name stand for."""
    stages = [known for known in snapshot.graph if fnmatch.fnmatchcase(known.name, stage)]
    if not stages:
        raise StageNotFound(snapshot.id, stage, [known.name for known in snapshot.graph])
    written = [(known.name, artifact) for known in stages for artifact in known.artifacts]
    if not written:
        states = " or ".join(sorted({known.state for known in stages}))
        makers = ", ".join([known.name for known in snapshot.graph if known.artifacts][:_NAMES_MAX])
        raise ArtifactNotFound(
            f"stage {stage!r} of flow {snapshot.id!r} is {states} and has no artifact",
            f"stages that have one: {makers or 'none'}",
        )
    fitting = [(maker, artifact) for maker, artifact in written if name in (None, artifact.name)]
    if not fitting:
        names = ", ".join(sorted({artifact.name for _, artifact in written})[:_NAMES_MAX])
        raise ArtifactNotFound(f"stage {stage!r} of flow {snapshot.id!r} has no artifact {name!r}", f"it has: {names}")
    if len(fitting) > 1:
        choices = ", ".join(f"{maker} {artifact.name}" for maker, artifact in fitting[:_NAMES_MAX])
        raise UsageError(f"{stage!r} stands for {len(fitting)} artifacts", f"give STAGE and NAME of one: {choices}")
    return fitting[0][1]


def _target(arguments: argparse.Namespace, artifact: Artifact) -> Path:
    """Where to put it. The key is foreign: its name must not lead out of the current directory or hide a file."""
    if arguments.out is None and (artifact.name.startswith(".") or not artifact.name.isprintable() or not artifact.name):
        raise ArtifactNameInvalid(artifact.name, "a plain file name; give one with -O FILE")
    path = Path(arguments.out or artifact.name)
    if path.is_dir():
        path = path / artifact.name
    if not (folder := _behind_links(path).parent).is_dir():
        raise UsageError(f"there is no directory {folder}", "make it, or name another file with -O FILE")
    if path.is_file() and not arguments.force:
        raise UsageError(f"{path} exists", "--force overwrites it; -O FILE names another file")
    return path


def _download(source: BinaryIO, path: Path, artifact: Artifact) -> None:
    """Copies to a temporary file beside `path`, so that nobody ever sees half of it under its name. To a device it
    writes: that must not be replaced. Nor must a link: /dev/stdout is one, to a file where that is what stdout is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as device:
            return _copy(source, device, artifact)
    path = _behind_links(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as target:
            _copy(source, target, artifact)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C: whatever ended it, no half of a file is left behind
        os.unlink(temporary)
        raise


def _behind_links(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _copy(source: BinaryIO, target: Any, artifact: Artifact) -> None:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK_BYTES):
        digest.update(chunk)
        target.write(chunk)
    if artifact.checksum and digest.hexdigest() != artifact.checksum:
        raise ArtifactCorrupt(artifact.key, "its checksum differs")


def _tell(arguments: argparse.Namespace, artifact: Artifact, path: Path) -> None:
    if output_of(arguments) == "text":
        from flowq.cli.render.sizes import shown_bytes

        size = f" ({shown_bytes(artifact.size)})" if artifact.size >= 0 else ""
        note(f"{path}{size}")
    else:
        say_json(arguments, "artifact", {**_fields(artifact), "path": str(path)})


def _fields(artifact: Artifact) -> dict[str, Any]:
    from flowq.cli.documents import plain

    return plain(artifact)
