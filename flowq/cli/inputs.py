"""`-i key=value` and `--input-json` → the arguments of a pipeline, typed by its annotations."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from flowq.cli.usage import UsageError, nearest
from flowq.errors import InvalidValue, shown
from flowq.model.artifact import Artifact
from flowq.model.values import json_or_text


def pipeline_arguments(function: Callable[..., Any], pairs: Sequence[str], json_source: str | None) -> dict[str, Any]:
    """The keyword arguments for a pipeline.

    Args:
        function: the pipeline's plain function.
        pairs: `key=value` as typed; they win over the JSON.
        json_source: JSON text, `@file`, `-` for stdin, or None.

    Raises:
        UsageError: no JSON object, a name the pipeline does not have, one that is missing.
        InvalidValue: a value of the wrong type.
    """
    parameters = inspect.signature(function).parameters
    types = _annotations(function)
    values = _decoded(json_source)
    for name, text in pairs_of(pairs, "-i").items():
        values[name] = typed(name, text, types.get(name, Any)) if name in parameters else text
    _check_names(values, parameters)
    return values


def pairs_of(pairs: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` as typed, taken apart.

    Raises:
        UsageError: one has no '=', or bytes that are no UTF-8.
    """
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"{option} {shown(pair)} has no '='", f"write {option} key=value")
        try:
            pair.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{option} {shown(pair)} is no UTF-8", "rename the file, if it names one") from None
        values[name] = text
    return values


def typed(name: str, text: str, kind: Any) -> Any:
    """One value as typed at a prompt, as what the annotation says.

    Text stays text where text is allowed. Else numbers, booleans, null and JSON are read; without an annotation too.
    """
    if kind is str:
        return text
    if kind is Artifact and not text.lstrip().startswith("{"):
        return Artifact.existing(text)
    if kind is Any:
        return json_or_text(text)
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        plain = json_or_text(text)
        if plain is not text:
            try:
                return msgspec.convert(plain, kind, strict=False)
            except msgspec.ValidationError as better:
                raise InvalidValue(f"input {name}", text, _expected(better)) from None
        raise InvalidValue(f"input {name}", text, _expected(error)) from None
    except TypeError:  # an annotation that msgspec can't check: the pipeline itself will
        return json_or_text(text)


def _expected(error: msgspec.ValidationError) -> str:
    """msgspec's message as the end of a sentence that begins with "expected". What was typed is text, which is no news."""
    return str(error).removeprefix("Expected ").replace(", got `str`", "")


def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # names that exist only for type checkers: then values are read as JSON or text
        return {}


def _decoded(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    if source == "-":
        raw = sys.stdin.buffer.read()
    elif source.startswith("@"):
        raw = _contents(source[1:])
    else:
        raw = source.encode("utf-8", "surrogateescape")
    try:
        value: Any = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"--input-json is no JSON: {error}", "write --input-json '{\"key\": 1}', @file or - for stdin") from None
    if not isinstance(value, dict):
        raise UsageError(f"--input-json is {shown(value)}", "expected an object with the pipeline's arguments")
    return cast("dict[str, Any]", value)


def _contents(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(
            f"--input-json names the file {shown(path)}, which can't be read: {error.strerror}",
            "write --input-json '{\"key\": 1}', @file or - for stdin",
        ) from None


def _check_names(values: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    known = ", ".join(parameters) or "none"
    for name in values:
        if name not in parameters and not takes_any:
            raise UsageError(f"the pipeline has no input {name!r}", nearest(name, parameters, f"its inputs: {known}"))
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable and name not in values
    ]
    if missing:
        raise UsageError(f"the pipeline needs {', '.join(missing)}", " ".join(f"-i {name}=…" for name in missing))
