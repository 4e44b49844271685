"""What hooks are told: stages that run after the end of a flow, `@stage(compensate=…)` and `@pipeline(finally_=…)`."""

from flowq.model.hooks import FlowEnd

__all__ = ["FlowEnd"]
