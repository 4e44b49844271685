"""Runs every block of one Markdown file: `python -m tests.house.document FILE`. A process of its own for each file,
because stages are registered by name. The directory, the server and the namespace come from the caller's environment.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import linecache
import os
import selectors
import signal
import subprocess
import sys
import time
import tomllib
import types
from pathlib import Path
from typing import IO

import yaml

from tests.house.blocks import Block, blocks, commands, missing_line

_COMMAND_SECONDS_MAX = 120
_STOP_SECONDS_MAX = 30
_DONE = "documentation-command-done"


class Broken(Exception):
    """A block does not do what the document says."""


class Shell:
    """One bash for all console blocks of a document, so that variables and `$?` live on."""

    def __init__(self) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> tuple[str, int]:
        """What the command printed, on either stream, and its exit code."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # Its stdin is not ours, or a program that reads would swallow the next command. `$?` is handed on.
        script = f"{{ (exit ${{last:-0}}); {command}\n}} </dev/null; last=$?; printf '\\n%s %d\\n' {_DONE} $last\n"
        self._bash.stdin.write(script.encode())
        self._bash.stdin.flush()
        printed = _read_until(self._bash.stdout, _DONE, command)
        output, _, code = printed.rpartition(_DONE)
        return output, int(code)

    def close(self) -> None:
        """Ends the shell, and the command that it waits for."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()


class Document:
    """The state that blocks of one file share: names, the shell, programs in the background."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._module = types.ModuleType("document_" + path.stem.replace("-", "_").lower())
        sys.modules[self._module.__name__] = self._module
        self._loop = asyncio.Runner()
        self._shell: Shell | None = None
        self._background: list[subprocess.Popen[bytes]] = []
        self._printed = ""
        self._now: Block | None = None

    def run(self) -> None:
        """Runs all blocks, in order.

        Raises:
            Broken: a block fails, or prints something else than shown.
        """
        try:
            with self._loop:
                for block in blocks(self.path):
                    self._now = block
                    self._run(block)
        finally:
            self._stop()

    def give_up(self, *_: object) -> None:
        """A signal's handler: the caller has waited long enough. Names the block and where it hangs."""
        stacks = io.StringIO()
        for task in asyncio.all_tasks(self._loop.get_loop()):
            task.print_stack(file=stacks)
        self._stop()
        # Not by raising: whoever swallows exceptions, or never looks, is what we wait for.
        print(
            f"{self._now.where if self._now else self.path.name}: goes on and on\n{stacks.getvalue()}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    def _run(self, block: Block) -> None:
        if "title" in block.words:
            target = Path(block.words["title"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, "utf-8")
        match block.language:
            case "python" if "title" in block.words:
                compile(block.text, block.where, "exec")
            case "python":
                self._run_python(block)
            case "console" if "background" in block.words:
                self._start(block)
            case "console":
                self._run_console(block)
            case "bash" if "not-run" not in block.words:
                self._run_bash(block)
            case "text" if "output" in block.words:
                self._compare(block, block.text.splitlines(), self._printed)
            case "toml" | "yaml" | "json":
                self._parse(block)
            case _:
                pass

    def _run_python(self, block: Block) -> None:
        # Blank lines before it make the line numbers of tracebacks those of the document.
        text = "\n" * (block.line - 1) + block.text
        linecache.cache[str(block.path)] = (len(text), None, text.splitlines(keepends=True), str(block.path))
        code = compile(text, str(block.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            if code.co_flags & inspect.CO_COROUTINE:
                self._loop.run(eval(code, self._module.__dict__))
            else:
                exec(code, self._module.__dict__)
        self._printed = output.getvalue()

    def _run_console(self, block: Block) -> None:
        self._shell = self._shell or Shell()
        listed = commands(block)
        for position, command in enumerate(listed):
            printed, code = self._shell.run(command.text)
            self._compare(block, command.shown, printed)
            is_last = position == len(listed) - 1
            expected = int(block.words.get("exit", 0)) if is_last else 0
            is_asked = not is_last and listed[position + 1].text == "echo $?"
            if code != expected and not is_asked:
                raise Broken(f"{block.where}: `{command.text}` ended with exit code {code}\n{printed}")
            self._printed = printed

    def _run_bash(self, block: Block) -> None:
        self._shell = self._shell or Shell()
        printed, code = self._shell.run(f"(set -e\n{block.text})")
        if code != int(block.words.get("exit", 0)):
            raise Broken(f"{block.where}: ended with exit code {code}\n{printed}")
        self._printed = printed

    def _start(self, block: Block) -> None:
        (command,) = commands(block)
        program = subprocess.Popen(
            ["bash", "-c", f"exec {command.text}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._background.append(program)
        assert program.stdout is not None
        last = next((line for line in reversed(command.shown) if line.strip(" …")), "")
        if last:
            printed = _read_until(program.stdout, None, command.text, shown=command.shown)
            self._compare(block, command.shown, printed)

    def _parse(self, block: Block) -> None:
        parsers = {"toml": tomllib.loads, "json": json.loads, "yaml": lambda text: list(yaml.safe_load_all(text))}
        try:
            parsers[block.language](block.text)
        except (ValueError, yaml.YAMLError) as error:
            raise Broken(f"{self.path.name}:{block.line}: {error}") from None

    def _compare(self, block: Block, shown: list[str], printed: str) -> None:
        if (missing := missing_line(shown, printed)) is not None:
            raise Broken(f"{block.where}: the document shows\n    {missing}\nbut this was printed:\n{printed}")

    def _stop(self) -> None:
        if self._shell:
            self._shell.close()
        programs, self._background = self._background, []
        for program in reversed(programs):
            os.killpg(program.pid, signal.SIGINT)
            try:
                # Read on, or a program that says goodbye into a full pipe never ends.
                program.communicate(timeout=_STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
                raise Broken(f"{self.path.name}: {program.args} goes on {_STOP_SECONDS_MAX} s after Ctrl-C") from None


def _read_until(stream: IO[bytes], marker: str | None, command: str, shown: list[str] | None = None) -> str:
    """Reads until a line with the marker, or until all shown lines were printed."""
    printed = b""
    deadline = time.monotonic() + _COMMAND_SECONDS_MAX
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while selector.select(max(0, deadline - time.monotonic())):
            chunk = os.read(stream.fileno(), 65_536)
            printed += chunk
            text = printed.decode(errors="replace")
            if marker and f"{marker} " in text and text.endswith("\n"):
                return text
            if not chunk or (shown and missing_line(shown, text) is None):
                return text
    raise Broken(f"`{command}` goes on after {_COMMAND_SECONDS_MAX} s; so far it printed:\n{printed.decode(errors='replace')}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    document = Document(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, document.give_up)
    try:
        document.run()
    except Broken as broken:
        sys.exit(str(broken))
