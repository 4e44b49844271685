"""Words that don't belong in the project: they mean nothing to its readers, or tie it to one machine."""

from __future__ import annotations

import re

from tests.house.project import ROOT, project_files

# Spelled in pieces, so that this file passes its own test.
FORBIDDEN = {
    "a package registry's host": r"py" r"pi\.org|python" r"hosted|registry\.npm" r"js|deb\." r"debian\.org",
    "a path of somebody's machine": r"(?<![\w.])/(?:wo" r"rk|ro" r"ot|far" r"m|opt/wheels)/|/home/(?!user\b)\w+/|/tmp/" r"w/",
    "an issue's number": r"\bissues? ?#?\d+|\bPR ?#?\d+|(?<=[\s(])#\d{2,}\b",
    "how the project was made": r"sub" r"agent|previous ses" r"sion|this ses" r"sion|as an? (?:AI|assis" r"tant)",
    "a name of modules that says nothing": r"^(?:import|from) flowq\.\w*(?:ut" r"ils|com" r"mon|hel" r"pers|mi" r"sc)\b",
}
BANNED_FILE_NAMES = {"utils", "common", "helpers", "misc", "constants", "types", "base"}
TEXT_SUFFIXES = {".py", ".lua", ".md", ".toml", ".yml", ".yaml", ".json", ".sh", ".cfg", ".txt", ".html", ".css", ".js", ""}


def test_no_file_holds_a_word_that_does_not_belong_here() -> None:
    """Each hit is shown with its line and the reason."""
    hits = [
        f"{path.relative_to(ROOT)}:{number}: {reason}: {line.strip()[:100]}"
        for path in project_files()
        if path.suffix in TEXT_SUFFIXES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for reason, pattern in FORBIDDEN.items()
        if re.search(pattern, line)
    ]
    assert not hits, "\n".join(hits)


def test_no_module_is_a_junk_drawer() -> None:
    """A module's name says what is in it."""
    found = [
        path.relative_to(ROOT).as_posix() for path in project_files() if path.stem in BANNED_FILE_NAMES and path.suffix == ".py"
    ]
    assert not found
