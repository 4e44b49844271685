"""What keeps the servers that need no set-up from running."""

from __future__ import annotations

from flowq.errors.root import FlowqError


class EmbeddedError(FlowqError):
    """An embedded server can't be used."""


class DataDirectoryUnusable(EmbeddedError):
    """The data directory can't be created, written or locked."""

    def __init__(self, directory: str, reason: str, remedy: str) -> None:
        super().__init__(f"data directory {directory}: {reason}", remedy)


class EmbeddedServerMissing(EmbeddedError):
    """No server binary was found."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"no {what} binary found", remedy)


class EmbeddedServerFailed(EmbeddedError):
    """The server binary did not start; carries the last lines of its log."""

    def __init__(self, what: str, log_tail: str, remedy: str) -> None:
        super().__init__(f"the embedded {what} did not start: {log_tail}", remedy)
