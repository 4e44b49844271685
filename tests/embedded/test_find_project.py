"""Which `.flowq/` serves a folder."""

from pathlib import Path

import pytest

from flowq.embedded import find_project


def test_it_is_the_folders_own_or_that_of_a_parent(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".flowq").mkdir()
    (tmp_path / "src" / "deep").mkdir(parents=True)
    assert find_project(tmp_path) == tmp_path / ".flowq"
    assert find_project(tmp_path / "src" / "deep") == tmp_path / ".flowq"


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git"])
def test_it_is_none_further_up_than_the_projects_root(tmp_path: Path, mark: str) -> None:
    (tmp_path / ".flowq").mkdir()
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "project" / mark).touch()
    assert find_project(tmp_path / "project" / "src") is None
    (tmp_path / "project" / ".flowq").mkdir()
    assert find_project(tmp_path / "project" / "src") == tmp_path / "project" / ".flowq"


def test_where_nothing_marks_a_project_it_is_the_folders_own_or_none(tmp_path: Path) -> None:
    (tmp_path / ".flowq").mkdir()
    (tmp_path / "fresh").mkdir()
    assert find_project(tmp_path) == tmp_path / ".flowq"
    assert find_project(tmp_path / "fresh") is None


def test_a_file_of_that_name_is_none(tmp_path: Path) -> None:
    (tmp_path / ".flowq").touch()
    (tmp_path / ".git").touch()
    assert find_project(tmp_path) is None
