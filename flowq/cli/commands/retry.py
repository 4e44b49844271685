"""`flowq retry FLOW_ID`, and of many flows by a filter."""

from __future__ import annotations

import argparse

from flowq.cli import exits
from flowq.cli.filters import act_on_many, add_dry_run, add_filters, filter_of, refuse_flow_and_filter
from flowq.cli.inputs import pairs_of
from flowq.cli.report import note
from flowq.cli.session import add_flow_id, add_yes, found, output_of, producer_of, run_async, say_json
from flowq.cli.usage import UsageError
from flowq.model.states import FINAL


def configure(parser: argparse.ArgumentParser) -> None:
    """Defines the options."""
    add_flow_id(parser, or_filter=True)
    add_filters(parser, ("failed", "cancelled"))
    add_dry_run(parser)
    add_yes(parser)
    parser.add_argument(
        "--from", dest="from_stage", metavar="STAGE", help="run this one again too, though it completed; `encode*` fits several"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="ARG=VALUE",
        action="append",
        default=[],
        help="another argument for these stages: text where it was text, else JSON",
    )
    parser.add_argument(
        "--deadline",
        metavar="DURATION|MOMENT",
        help="what has not completed by then is cancelled (default: none)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs again what failed or was cancelled, and all that uses its results; what else has completed stays."""
    output_of(arguments)
    if refuse_flow_and_filter(arguments):
        if arguments.from_stage is not None or arguments.overrides:
            raise UsageError("--from and --set go with one flow", "give FLOW_ID instead of a filter")
        return run_async(lambda: _retry_many(arguments))
    return run_async(lambda: _retry(arguments))


async def _retry_many(arguments: argparse.Namespace) -> int:
    from flowq.cli.moments import duration_or_moment

    deadline = duration_or_moment(arguments.deadline, "--deadline")
    async with producer_of(arguments) as producer:
        wanted = filter_of(arguments)
        return await act_on_many(arguments, lambda dry_run: producer.retry(**wanted, dry_run=dry_run, deadline=deadline))


async def _retry(arguments: argparse.Namespace) -> int:
    from flowq.cli.moments import duration_or_moment
    from flowq.engine.flow.as_typed import AsTyped

    deadline = duration_or_moment(arguments.deadline, "--deadline")
    async with producer_of(arguments) as producer:
        flow_id = await found(producer, arguments, changes=True)
        overrides = {name: AsTyped(text) for name, text in pairs_of(arguments.overrides, "--set").items()}
        flow = producer.flow(flow_id)
        stages = await flow.retry(from_stage=arguments.from_stage, overrides=overrides, deadline=deadline)
        state = (await flow.inspect()).state
    if output_of(arguments) == "text":
        from flowq.cli.render.sizes import shown_stages

        nothing = "nothing to retry" if state in FINAL else f"it is {state}: what failed can be retried once it has ended"
        note(f"{flow_id}: {shown_stages(stages)} to run again" if stages else f"{flow_id}: {nothing}")
    else:
        say_json(arguments, "retried", {"id": flow_id, "stages": stages, "state": state})
    return exits.OK
