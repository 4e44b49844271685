"""The runner of the documentation, on documents that tell the truth and on others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.project import ROOT

TRUE = """
Save it, run it, use it:

```python title="hello.py"
print("hello", 6 * 7)
```

```console
$ python hello.py
hello 42
$ who=me
$ echo "I am $who" && \\
    echo 'took 12s'
I am …
took 3.1s
$ false
$ echo $?
1
```

```python
import asyncio
async def answer() -> int:
    return 42
print(await answer())
```

```text output
42
```

```python
print(asyncio.run(answer()) + 1)
```

```console background
$ python -c "import time; print('ready'); time.sleep(1000)"
ready
```

```console exit=3
$ (exit 3)
```

```toml title="flowq.toml"
namespace = "here"
```

```bash
grep -q here flowq.toml
```
"""

FALSE = {
    "a console block shows what is not printed": "```console\n$ echo one\ntwo\n```",
    "a command fails": "```console\n$ false\n```",
    "a command ends with another code": "```console exit=2\n$ (exit 3)\n```",
    "python raises": "```python\n1 / 0\n```",
    "python prints something else": "```python\nprint(1)\n```\n\n```text output\n2\n```",
    "a script fails in the middle": "```bash\nfalse\ntrue\n```",
    "toml does not parse": "```toml\na =\n```",
    "a fence is not closed": "```python\nprint(1)\n",
    "a block for the console has no prompt": "```console\nflowq\n```",
}


@pytest.fixture
def run(tmp_path: Path):
    """Runs a document's text; the finished process."""

    def run(text: str) -> subprocess.CompletedProcess[str]:
        document = tmp_path / "page.md"
        document.write_text(text, "utf-8")
        argv = [sys.executable, "-m", "tests.house.document", str(document)]
        environment = {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
        return subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_document_that_tells_the_truth_passes(run) -> None:
    """All kinds of blocks together."""
    ended = run(TRUE)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("text", FALSE.values(), ids=FALSE)
def test_a_document_that_does_not_is_refused(run, text: str) -> None:
    """And the message or traceback names the page."""
    ended = run(text)
    assert ended.returncode != 0
    assert "page.md" in ended.stderr
