"""Fenced code blocks of Markdown files, and what the words after the fence mean to the runner of the documentation.

```python                     runs; names stay for later blocks of the file; `await` works at the top
```python title="hello.py"    is saved under that name instead
```text output                what the block before it printed
```console                    `$ command` lines run in one shell per file; other lines are what they print
```console exit=5             the last command ends with that code
```console background         the command goes on until the file ends; waits until it has printed the lines shown
```bash                       runs as a whole
```bash not-run               can't run here (installing, containers): its words are checked instead
```toml · yaml · json         must parse; with `title=` it is saved too
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_WORD = re.compile(r'[\w-]+(?:=(?:"[^"]*"|\S+))?')
_CHANGING = (
    (re.compile(r"\x1b\[[0-9;?]*[A-Za-z]"), ""),  # colours
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)?(?:ms|s|m|h)\b"), "<duration>"),
    (re.compile(r"(?<= )[█▓░╌]+(?= |$)"), ""),  # bars
)


class Block(NamedTuple):
    """One fenced block. `line` is where its text begins, for tracebacks."""

    path: Path
    line: int
    language: str
    words: dict[str, str]
    text: str

    @property
    def where(self) -> str:
        """`README.md:12`, for messages."""
        return f"{self.path.name}:{self.line}"


class Command(NamedTuple):
    """One command of a console block and the output shown under it."""

    text: str
    shown: list[str]


def blocks(path: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown file, in order.

    Raises:
        ValueError: a fence is not closed.
    """
    lines = path.read_text("utf-8").splitlines()
    start: int | None = None
    opening: re.Match[str] | None = None
    for number, line in enumerate(lines):
        found = _FENCE.match(line)
        if opening is None:
            if found:
                start, opening = number + 1, found
        elif found and not found["info"].strip() and found["fence"].startswith(opening["fence"]):
            text = textwrap.dedent("\n".join(lines[start:number])) + "\n"
            yield _block(path, number - len(lines[start:number]) + 1, opening["info"], text)
            opening = None
    if opening is not None:
        raise ValueError(f"{path}:{start}: the fence is not closed")


def _block(path: Path, line: int, info: str, text: str) -> Block:
    language, *words = _WORD.findall(info) or [""]
    pairs = (word.partition("=") for word in words)
    return Block(path, line, language, {name: value.strip('"') for name, _, value in pairs}, text)


def commands(block: Block) -> list[Command]:
    """The commands of a console block.

    Raises:
        ValueError: the block does not begin with a prompt.
    """
    found: list[Command] = []
    is_continued = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:], []))
        elif found and (is_continued or (line.startswith("> ") and not found[-1].shown)):
            found[-1] = Command(found[-1].text + "\n" + line.removeprefix("> "), [])
        elif found:
            found[-1].shown.append(line)
        else:
            raise ValueError(f"{block.where}: a console block begins with `$ command`")
        is_continued = line.endswith("\\") and not found[-1].shown
    return found


def missing_line(shown: list[str], printed: str) -> str | None:
    """The first shown line that was not printed, in order; None if all were.

    `…` stands for anything. Times, durations, bars and spaces differ from run to run and do not count.
    """
    actual = iter([_comparable(line) for line in printed.splitlines()])
    for line in shown:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in _comparable(line).split("…")))
        if pattern.pattern.strip(".*") and not any(pattern.fullmatch(candidate) for candidate in actual):
            return line
    return None


def _comparable(line: str) -> str:
    for changing, word in _CHANGING:
        line = changing.sub(word, line)
    return " ".join(line.split())
