"""One name, one function; and stages that are only declared."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flowq.errors import DefinitionError, InvalidValue, StageNameTaken
from flowq.model.artifact import Artifact
from flowq.pipeline import declare, find_stage, pipeline, stage
from tests.pipeline.short_video import encode

MODULE = "from flowq.pipeline import stage\n\n@stage\ndef twice_named_stage() -> int:\n    return {}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_stage_is_found_by_its_name() -> None:
    assert find_stage("encode") is encode
    assert find_stage("never-defined") is None


def test_two_functions_under_one_name_are_refused_with_both_modules(folder: Path) -> None:
    (folder / "first_of_two.py").write_text(MODULE.format(1))
    (folder / "second_of_two.py").write_text(MODULE.format(2))
    importlib.import_module("first_of_two")
    with pytest.raises(StageNameTaken) as refused:
        importlib.import_module("second_of_two")
    assert "first_of_two.twice_named_stage and second_of_two.twice_named_stage" in str(refused.value)


def test_two_functions_of_one_module_under_one_name_are_refused() -> None:
    @stage(name="same_name_twice")
    def first() -> None: ...

    with pytest.raises(StageNameTaken, match=r"first and .*second"):

        @stage(name="same_name_twice")
        def second() -> None: ...

    assert find_stage("same_name_twice") is first


def test_a_stage_that_belongs_to_no_module_is_told_by_its_file() -> None:
    made: dict[str, Any] = {}
    code = "from flowq.pipeline import pipeline\n@pipeline\ndef of_no_module():\n    return made_by_exec()\n"
    exec(MODULE.replace("twice_named_stage", "made_by_exec").format(1) + code, made)
    assert made["of_no_module"].stages() == (made["made_by_exec"],)
    with pytest.raises(StageNameTaken, match=r"<string>\.made_by_exec and tests\."):

        @stage(name="made_by_exec")
        def another() -> None: ...


def test_a_reloaded_module_takes_its_own_place(folder: Path) -> None:
    (folder / "reloaded_module.py").write_text(MODULE.format(1).replace("twice_named", "reloaded"))
    module = importlib.import_module("reloaded_module")
    importlib.reload(module)
    assert find_stage("reloaded_stage") is module.reloaded_stage


def test_a_file_that_is_loaded_under_two_module_names_is_one(folder: Path) -> None:
    path = folder / "run_as_main.py"
    path.write_text(MODULE.format(1).replace("twice_named", "main"))
    importlib.import_module("run_as_main")
    spec = importlib.util.spec_from_file_location("imported_again", path)
    assert spec is not None
    assert spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    sys.modules["imported_again"] = again
    spec.loader.exec_module(again)
    assert find_stage("main_stage") is again.main_stage


def test_the_name_of_a_local_stage_is_free_when_nobody_holds_the_stage() -> None:
    def one() -> Any:
        @stage
        def short_lived() -> None: ...

        return short_lived.with_options(priority=1)

    def other() -> Any:
        @stage
        def short_lived() -> None: ...

        return short_lived

    del one
    first = other()
    del first
    assert other().name == "short_lived"


def test_two_stages_of_one_name_in_one_flow_are_refused() -> None:
    def made(step: int) -> Any:
        @stage
        def made_twice() -> int:
            return step

        return made_twice

    first, second = made(1), made(2)

    @pipeline
    def both() -> None:
        first()
        second()

    with pytest.raises(StageNameTaken, match="made_twice"):
        both()
    with pytest.raises(StageNameTaken, match="made_twice"):
        both.stages()


def recognise(source: Artifact, language: str = "en") -> Artifact:
    raise NotImplementedError


def test_a_declared_stage_is_wired_and_checked_without_its_code() -> None:
    declared = declare("recognise_faces", recognise, queue="gpu", attempts=2, timeout="45m")
    spec = declared.flow(Artifact("a"))
    planned = spec.plan.stages[0]
    assert (planned.stage, planned.queue, planned.attempts, planned.timeout_ms) == ("recognise_faces", "gpu", 2, 2_700_000)
    assert msgspec.msgpack.decode(spec.literals[0])["language"] == "en"
    assert declared.is_declared
    assert find_stage("recognise_faces") is declared
    with pytest.raises(InvalidValue, match=r"recognise_faces\.language"):
        declared.flow(Artifact("a"), language=3)  # type: ignore[arg-type]


def test_a_declared_stage_can_not_run_here() -> None:
    declared = declare("recognise_voices", recognise)
    with pytest.raises(DefinitionError, match="'recognise_voices' is only declared here"):
        declared(Artifact("a"))
    with pytest.raises(DefinitionError, match="only declared here"):
        declared.fn(Artifact("a"))


def test_the_real_stage_of_a_declared_name_is_the_one_that_is_found() -> None:
    declared = declare("really_there", recognise)

    @stage
    def really_there(source: Artifact, language: str = "en") -> Artifact:
        return source

    @pipeline
    def through_declared() -> Artifact:
        return declared(Artifact("a"))

    declare("really_there", recognise)
    assert find_stage("really_there") is really_there
    assert through_declared.stages() == (really_there,)
    assert through_declared().plan.stages[0].stage == "really_there"
