"""Which error ends with which exit code. The numbers are promised: scripts depend on them."""

from __future__ import annotations

import inspect

import pytest

from flowq import errors
from flowq.cli import exits
from flowq.cli.usage import ArtifactNotFound, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidValue("a", 1, "b"), 2),
        (errors.ModuleNotLoaded("a"), 2),
        (errors.AmbiguousFlowId("a", ["ab", "ac"]), 2),
        (errors.FlowNotFound("a"), 3),
        (errors.StageNotFound("a", "b", ["c"]), 3),
        (errors.ArtifactMissing("a"), 3),
        (errors.ServerNotConfigured(), 4),
        (errors.ServerUnreachable("redis://h", "refused"), 4),
        (errors.StorageForbids("s3://b", "no"), 4),
        (errors.ArtifactMisused("a", "b", "c"), 1),
        (errors.ArtifactNameTaken("a"), 1),
        (errors.ArtifactNotWritten("a", "b"), 1),
        (UsageError("a"), 2),
        (ArtifactNotFound("a"), 3),
        (errors.EmbeddedServerMissing("Valkey", "install it"), 4),
        (errors.FlowFailed("a", "b", "E", "m"), 5),
        (errors.FlowCancelled("a", ""), 6),
        (errors.FlowTimedOut("a", 1), 124),
        (errors.FlowConflict("a"), 1),
        (errors.CorruptState("a", "k", "r"), 1),
        (ValueError("a"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exits.code_of(error) == code


def test_every_exit_code_is_explained() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes == set(exits.MEANING)


def test_every_error_of_flowq_ends_with_a_known_code() -> None:
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.FlowqError):
            assert exits.code_of(kind.__new__(kind)) in exits.MEANING
