"""Whether a plain value fits a JSON Schema as msgspec makes them: for values whose type this process does not have.

Knows what msgspec writes and nothing more; what it does not know it lets pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

_KINDS: dict[str, tuple[type[Any], ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str, bytes),
    "array": (list, tuple),
    "object": (dict,),
}


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """What of the value does not fit, such as `by: expected string`; None: all does."""
    return _misfit(value, schema, schema.get("$defs", {}), "")


def _misfit(value: Any, schema: Mapping[str, Any], named: Mapping[str, Any], path: str) -> str | None:
    if "$ref" in schema:
        schema = named.get(str(schema["$ref"]).rpartition("/")[2], {})
    if "anyOf" in schema:
        found = [_misfit(value, one, named, path) for one in schema["anyOf"]]
        return None if None in found else min((text for text in found if text), key=len, default=None)
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if allowed is not None and value not in allowed:
        return _expected(path, f"one of {', '.join(map(repr, allowed))}")
    kinds = _KINDS.get(schema.get("type", ""))
    if kinds is not None and not (isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))):
        return _expected(path, str(schema["type"]))
    return next((text for text in _inside(value, schema, named, path) if text), None)


def _inside(value: Any, schema: Mapping[str, Any], named: Mapping[str, Any], path: str) -> Iterator[str | None]:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        missing = [name for name in schema.get("required", ()) if name not in fields]
        yield _expected(path, f"a field {missing[0]!r}") if missing else None
        known, others = schema.get("properties", {}), _schema(schema.get("additionalProperties"))
        for name, part in fields.items():
            yield _misfit(part, known.get(name, others), named, f"{path}.{name}")
    if isinstance(value, list | tuple):
        first, rest = list(schema.get("prefixItems", ())), _schema(schema.get("items"))
        for position, part in enumerate(cast("Sequence[Any]", value)):
            yield _misfit(part, first[position] if position < len(first) else rest, named, f"{path}[{position}]")


def _schema(found: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _expected(path: str, what: str) -> str:
    return f"{path.lstrip('.')}: expected {what}" if path else f"expected {what}"
