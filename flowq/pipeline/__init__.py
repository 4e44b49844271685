"""What users write: `@stage`, `@pipeline`, `Node`, and the tracing of a definition into a plan. Needs only the model."""

from flowq.model.dedup import Dedup
from flowq.pipeline.accept import to_spec
from flowq.pipeline.decorate import declare, stage
from flowq.pipeline.definition import Pipeline, pipeline
from flowq.pipeline.limit import limit
from flowq.pipeline.nesting import subflow
from flowq.pipeline.node import Node
from flowq.pipeline.node_graph import spec_from_node
from flowq.pipeline.registry import find_stage
from flowq.pipeline.resource import reset_resources, resource
from flowq.pipeline.signals import signal
from flowq.pipeline.stage import Stage
from flowq.pipeline.tolerance import succeeded, tolerate

__all__ = [
    "Dedup",
    "Node",
    "Pipeline",
    "Stage",
    "declare",
    "find_stage",
    "limit",
    "pipeline",
    "reset_resources",
    "resource",
    "signal",
    "spec_from_node",
    "stage",
    "subflow",
    "succeeded",
    "to_spec",
    "tolerate",
]
