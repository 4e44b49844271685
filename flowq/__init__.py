"""flowq: flows of stages on Redis or Valkey, with S3 keys between them. See README.md.

The public names. Exceptions live in `flowq.errors`, except the two that stages raise.
"""

from typing import TYPE_CHECKING, Any

try:
    from flowq.errors import FlowqError, RetryAfter, Unrecoverable
    from flowq.model.artifact import Artifact
    from flowq.model.failure import StageFailure
    from flowq.model.retry import Backoff
    from flowq.model.spec import FlowSpec
    from flowq.pipeline import Node, declare, limit, pipeline, resource, signal, stage, succeeded, tolerate
except KeyboardInterrupt:
    # The `flowq` command spends much of its start here, before its own code can deal with Ctrl-C (`__main__.py`).
    import os
    import sys

    if os.path.basename(sys.argv[0]).partition(".")[0] == "flowq" or (sys.argv[0], *sys.orig_argv[1:3]) == ("-m", "-m", "flowq"):
        os._exit(130)
    raise

if TYPE_CHECKING:
    from flowq.engine.client.producer import FlowProducer
    from flowq.engine.flow.handle import FlowHandle
    from flowq.engine.run.context import context
    from flowq.engine.worker.worker import Worker

__version__ = "0.1.0"

# What needs a server loads when it is first used: defining pipelines must stay cheap to import.
_LAZY = {
    "FlowHandle": "flowq.engine.flow.handle",
    "FlowProducer": "flowq.engine.client.producer",
    "Worker": "flowq.engine.worker.worker",
    "context": "flowq.engine.run.context",
}

__all__ = [
    "Artifact",
    "Backoff",
    "FlowHandle",
    "FlowProducer",
    "FlowSpec",
    "FlowqError",
    "Node",
    "RetryAfter",
    "StageFailure",
    "Unrecoverable",
    "Worker",
    "context",
    "declare",
    "limit",
    "pipeline",
    "resource",
    "signal",
    "stage",
    "succeeded",
    "tolerate",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'flowq' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
