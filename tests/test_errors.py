"""What all errors have in common."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

import flowq.errors
from flowq.errors import (
    FlowConflict,
    FlowFailed,
    InvalidValue,
    ProgramFailed,
    RetryAfter,
    ServerUnreachable,
    Unrecoverable,
    WrongArguments,
)

ERRORS = [
    FlowFailed("f1", "encode", "ValueError", "no"), FlowConflict("f1"), InvalidValue("timeout", "soon", "a duration"),
    WrongArguments("encode", "got too many", "(url)"), ServerUnreachable("redis://host", "refused"),
    ProgramFailed(["ffmpeg"], -9, "killed"), RetryAfter("90s", "busy", uses_attempt=False), RetryAfter(5),
]  # fmt: skip


def test_errors_are_named_as_users_import_them() -> None:
    kinds = [kind for name in flowq.errors.__all__ if isinstance(kind := getattr(flowq.errors, name), type)]
    assert {kind.__module__ for kind in kinds} == {"flowq.errors"}
    assert [kind for kind in kinds if pickle.loads(pickle.dumps(kind)) is not kind] == []
    assert traceback.format_exception_only(Unrecoverable("no")) == ["flowq.errors.Unrecoverable: no\n"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_the_way_through_a_process_pool(error: Exception) -> None:
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is type(error)
        assert (str(copied), copied.args, vars(copied)) == (str(error), error.args, vars(error))
