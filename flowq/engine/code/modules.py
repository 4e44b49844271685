"""Loads what the user names: MODULE (a dotted name or a .py path) and MODULE:PIPELINE."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from flowq.errors import FlowqError, ModuleNotLoaded
from flowq.pipeline import Pipeline, Stage
from flowq.pipeline.lines import line_of
from flowq.pipeline.registry import all_stages
from flowq.pipeline.stage import AnyStage

AnyPipeline = Pipeline[..., Any]
_NAMED_MAX = 10


def load_module(target: str) -> ModuleType:
    """Imports a module.

    Args:
        target: `package.module`, looked for in the current directory first, or the path of a `.py` file.

    Raises:
        ModuleNotLoaded: it does not exist, or its own code failed; names the line.
        FlowqError: what flowq refused in it; its problem names the line.
    """
    path = Path(target)
    try:
        if target.endswith(".py") or path.is_file():
            return _from_path(path)
        if not all(part.isidentifier() for part in target.split(".")):
            raise _missing(target)
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(target)
    except ModuleNotLoaded:
        raise
    except FlowqError as error:
        error.problem = f"{error.problem} ({line_of(error, error.__traceback__)})"
        raise
    except ModuleNotFoundError as error:
        if error.name and (target == error.name or target.startswith(error.name + ".")):
            raise _missing(target) from None
        raise ModuleNotLoaded(
            f"{target} imports {error.name!r}, which is not installed ({line_of(error, error.__traceback__)})",
            "install it where flowq runs",
        ) from error
    except Exception as error:  # a module is the user's code and may raise anything
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ModuleNotLoaded(
            f"{target} failed while it was imported: {said} ({line_of(error, error.__traceback__)})",
            "correct that line; `python` on the file shows the whole traceback",
        ) from error
    except SystemExit as error:
        raise ModuleNotLoaded(
            f"{target} calls sys.exit() while it is imported", "put that under `if __name__ == '__main__':`"
        ) from error


def load_pipeline(target: str) -> AnyPipeline | AnyStage:
    """Imports MODULE and returns its PIPELINE; a stage serves as a pipeline of one. Without a name: the module's only pipeline.

    Raises:
        ModuleNotLoaded: the module, or the name in it, can't be had.
    """
    module_name, _, name = target.partition(":")
    module = load_module(module_name)
    found: dict[str, AnyPipeline | AnyStage] = {
        key: value for key, value in vars(module).items() if isinstance(value, Pipeline | Stage)
    }
    pipelines: dict[str, AnyPipeline] = {key: value for key, value in found.items() if isinstance(value, Pipeline)}
    if not name:
        if len(pipelines) == 1:
            return next(iter(pipelines.values()))
        raise ModuleNotLoaded(f"{module_name} has {len(pipelines) or 'no'} pipelines", _named(module_name, pipelines or found))
    if name not in found:
        nearest = difflib.get_close_matches(name, found, 1)
        raise ModuleNotLoaded(
            f"{module_name} has no pipeline {name!r}",
            f"did you mean {nearest[0]!r}?" if nearest else f"it has: {', '.join(sorted(found)) or 'none'}",
        )
    return found[name]


def _named(module_name: str, found: Mapping[str, object]) -> str:
    """Which of these there are to name."""
    shown = [f"{module_name}:{name}" for name in sorted(found)[:_NAMED_MAX]]
    more = f" or {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return f"name one: {', '.join(shown)}{more}" if shown else "define one with @pipeline, or a @stage"


def load_stages(targets: tuple[str, ...]) -> dict[str, AnyStage]:
    """Imports modules and returns the stages that a worker can run, by name.

    Raises:
        ModuleNotLoaded: a module can't be had, or none of them defines or imports a stage.
    """
    modules = [load_module(target) for target in targets]
    stages = {stage.name: stage for stage in all_stages() if not stage.is_declared}
    if not stages:
        raise ModuleNotLoaded(
            f"{', '.join(module.__name__ for module in modules)} has no stages",
            "define functions with @stage, or import them there",
        )
    return stages


def load_pipelines(targets: tuple[str, ...]) -> list[AnyPipeline]:
    """Imports modules and returns the pipelines that they define or import.

    Raises:
        ModuleNotLoaded: a module can't be had.
    """
    values = [value for target in targets for value in vars(load_module(target)).values()]
    return [value for value in values if isinstance(value, Pipeline)]


def _missing(target: str) -> ModuleNotLoaded:
    return ModuleNotLoaded(f"there is no module {target!r}", "name it with dots from the current directory, or give its .py path")


def _from_path(path: Path) -> ModuleType:
    if not path.is_file():
        raise ModuleNotLoaded(f"there is no file {path}", "check the path")
    # One module per file and process, under its own name, so that its stages are the same objects however it was loaded.
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    if known is not None and name in sys.stdlib_module_names:
        raise ModuleNotLoaded(f"{path} would take the place of Python's own module {name!r}", "give the file another name")
    if str(path.resolve().parent) not in sys.path:
        sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ModuleNotLoaded(f"{path} is no Python file", "name a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # whatever it raised, what was half made of it must not be found by the next import
        del sys.modules[name]
        raise
    return module
