"""`Pipeline.stages()`: what a worker of a pipeline must serve, found without running the body."""

from __future__ import annotations

import functools
from typing import Any

from flowq.cli.sample import tour
from flowq.pipeline import pipeline, stage
from tests.pipeline import helpers_elsewhere, short_video
from tests.pipeline.short_video import download, encode, labels, note, parts, probe, row, sparse, store


class Proxy:
    """A framework's proxy: whoever looks at its class outside a request gets an error."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("working outside of request context")


request = Proxy()
small = encode.with_options(queue="small")
partial = functools.partial(sparse)


def names(made: Any) -> list[str]:
    return [found.name for found in made.stages()]


def test_stages_named_in_the_body_are_found_sorted_by_name() -> None:
    assert names(short_video.short_video) == ["download", "encode", "finalize", "transcribe"]


def test_stages_in_branches_loops_lambdas_and_inner_functions_are_found() -> None:
    @pipeline
    def branching(flag: bool) -> Any:
        def inner(source: Any) -> Any:
            return probe(source)

        if flag:
            return (lambda: row(download("u")))()
        return [inner(labels(source)) for source in [download("u")]]

    assert names(branching) == ["download", "labels", "probe", "row"]


def test_stages_behind_modules_helpers_and_tables_are_found() -> None:
    @pipeline
    def through_module() -> Any:
        return helpers_elsewhere.modules.transcribe(helpers_elsewhere.helper(download("u")))

    @pipeline
    def through_table(kind: str) -> Any:
        return helpers_elsewhere.TABLE[kind](download("u"))

    assert names(through_module) == ["download", "split", "transcribe"]
    assert names(through_table) == ["box", "download", "encode"]


def test_stages_imported_in_the_body_are_found() -> None:
    @pipeline
    def importing() -> Any:
        from tests.pipeline.short_video import maybe

        return maybe(download("u"))

    assert names(importing) == ["download", "maybe"]


def test_variants_partials_defaults_and_enclosing_variables_are_found() -> None:
    @stage
    def enclosed() -> None: ...

    @pipeline
    def mixed(then: Any = parts) -> Any:
        enclosed()
        partial(small(download("u")))
        return then

    assert names(mixed) == ["download", "enclosed", "encode", "parts", "sparse"]


def test_a_decorated_body_is_seen_through() -> None:
    def logged(fn: Any) -> Any:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return wrapper

    @pipeline
    @logged
    def decorated(value: str) -> Any:
        note(value)
        return store(value)

    assert names(decorated) == ["note", "store"]
    assert [planned.name for planned in decorated("x").plan.stages] == ["note", "store"]


def test_a_proxy_that_refuses_to_be_looked_at_is_passed_over() -> None:
    @pipeline
    def with_request() -> Any:
        return store(download("u"), request)  # type: ignore[call-arg]

    assert names(with_request) == ["download", "store"]


def test_the_stages_of_the_built_in_sample_are_found() -> None:
    assert names(tour) == ["add_up", "average", "collect", "report"]
