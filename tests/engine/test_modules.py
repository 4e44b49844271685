"""Loading what the user names: a module, a file, a pipeline in it; every failure says what to correct."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.engine.code.modules import load_module, load_pipeline, load_stages
from flowq.errors import InvalidValue, ModuleNotLoaded
from flowq.pipeline import Pipeline, Stage

PIPELINES = """
from flowq import pipeline, stage

@stage(name="{name}")
def a(x: int) -> int: return x

@pipeline
def only(x: int) -> int: return a(x)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, from which modules are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
    sys.path[:] = path


def test_a_file_and_its_dotted_name_are_one_module(folder: Path) -> None:
    (folder / "mod_one.py").write_text(PIPELINES.format(name="in_mod_one"))
    assert load_module("mod_one.py") is load_module("mod_one") is load_module(str(folder / "mod_one.py"))
    assert "in_mod_one" in load_stages(("mod_one",))


def test_the_only_pipeline_needs_no_name_and_a_stage_serves_as_one(folder: Path) -> None:
    (folder / "mod_two.py").write_text(PIPELINES.format(name="in_mod_two"))
    assert isinstance(load_pipeline("mod_two.py"), Pipeline)
    assert isinstance(load_pipeline("mod_two:only"), Pipeline)
    assert isinstance(load_pipeline("mod_two:a"), Stage)


def test_files_beside_a_module_can_be_imported_by_it(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "neighbour_of_three.py").write_text("x = 3\n")
    (folder / "below" / "mod_three.py").write_text("from neighbour_of_three import x\n")
    assert load_module("below/mod_three.py").x == 3


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing.py", "no file"),
        ("no_such_module", "no module 'no_such_module'"),
        ("mod_bad", "no_such_package"),
        ("mod_raises", "mod_raises.py:2"),
        ("mod_syntax.py", "SyntaxError: invalid syntax (mod_syntax.py:2)"),
        ("mod_syntax", "(mod_syntax.py:2)"),
        ("mod_imports", "(mod_syntax.py:2)"),
        ("mod_names", "(mod_names.py:2)"),
        ("mod_bad", "(mod_bad.py:1)"),
        ("mod_deep", "(mod_deep.py:2)"),
        ("mod_key.py", "imported: KeyError (mod_key.py:1)"),
        ("mod_exits", "sys.exit"),
        ("", "no module ''"),
        (".", "no module '.'"),
        (".relative", "no module '.relative'"),
        ("queue.py", "Python's own module 'queue'"),
    ],
)
def test_a_module_that_does_not_load_says_why(folder: Path, target: str, said: str) -> None:
    (folder / "mod_bad.py").write_text("import no_such_package\n")
    (folder / "mod_raises.py").write_text("x = 1\nraise ValueError('mine')\n")
    (folder / "mod_syntax.py").write_text("x = 1\ndef (:\n")
    (folder / "mod_imports.py").write_text("import mod_syntax\n")
    (folder / "mod_names.py").write_text("import os\nfrom os import nothing_of_this_name\n")
    (folder / "mod_deep.py").write_text("import json\njson.loads('{')\n")
    (folder / "mod_key.py").write_text("raise KeyError\n")
    (folder / "queue.py").write_text("x = 1\n")
    (folder / "mod_exits.py").write_text("raise SystemExit\n")
    with pytest.raises(ModuleNotLoaded) as refusal:
        load_module(target)
    assert said in str(refusal.value)
    assert refusal.value.remedy


def test_what_flowq_refuses_in_a_module_stays_what_it_is_and_names_the_line(folder: Path) -> None:
    (folder / "mod_option.py").write_text("from flowq import stage\nattempts = 0\n@stage(attempts=attempts)\ndef a(): ...\n")
    with pytest.raises(InvalidValue, match=r"attempts is 0 \(mod_option\.py:3\); expected a whole number"):
        load_module("mod_option")


def test_a_misspelt_pipeline_is_answered_with_the_nearest(folder: Path) -> None:
    (folder / "mod_four.py").write_text(PIPELINES.format(name="in_mod_four"))
    with pytest.raises(ModuleNotLoaded, match="did you mean 'only'"):
        load_pipeline("mod_four:onyl")


def test_a_module_that_failed_can_be_corrected_and_loaded_again(folder: Path) -> None:
    (folder / "mod_five.py").write_text("raise ValueError\n")
    with pytest.raises(ModuleNotLoaded):
        load_module("mod_five.py")
    (folder / "mod_five.py").write_text("x = 'corrected'\n")
    assert load_module("mod_five.py").x == "corrected"


def test_a_module_that_is_called_like_one_of_python_shows_its_stages(folder: Path) -> None:
    helper = "\ndef helper(x): return a(x)\n\n@pipeline\ndef through_helper(x: int) -> int: return helper(x)\n"
    (folder / "antigravity.py").write_text(PIPELINES.format(name="in_antigravity") + helper)
    found = load_pipeline("antigravity.py:through_helper")
    assert isinstance(found, Pipeline)
    assert [stage.name for stage in found.stages()] == ["in_antigravity"]
