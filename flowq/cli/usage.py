"""The errors that only the command line has. Raised by the parser and by commands, shown by `report`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flowq.errors import FlowqError


class UsageError(FlowqError):
    """An option or argument is wrong, missing or unknown; ends with exit code 2."""


class ArtifactNotFound(FlowqError):
    """The stages that were named have no such artifact; ends with exit code 3."""


class FlowsLost(FlowqError):
    """What was to be measured is not on the server any more; ends with exit code 1. `gone` of 0: keys of it, and no flows."""

    def __init__(self, gone: int = 0, added: int = 0) -> None:
        what = f"{gone:,} of {added:,} flows" if gone else "keys of the namespace"
        super().__init__(
            f"{what} are gone: the server has lost them, or somebody removed them",
            "measure again when it keeps its data: it was started anew without them, was flushed, or a node of it failed",
        )


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean 'inspect'?` for a misspelt word, or `otherwise` when nothing comes close."""
    found = difflib.get_close_matches(word, list(known), 1, cutoff=0.5)
    return f"did you mean {found[0]!r}?" if found else otherwise
