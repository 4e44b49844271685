"""Settings: flag > FLOWQ_* > flowq.toml / [tool.flowq] in pyproject.toml > default. Frozen structs; secrets are masked.

Callers pass what was said explicitly to `Settings.load`; but for the binaries of the embedded servers nothing else in
flowq reads the environment. `flowq config` shows every value with the place it came from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import structs

from flowq.errors import InvalidValue, masked
from flowq.model import setting_values
from flowq.model.duration import shown_duration
from flowq.model.keep import KeepSettings
from flowq.model.names import check_location, check_namespace
from flowq.model.setting_values import CONCURRENCY_MAX, EVENTS_MOST_MAX, IDLE_MS_MIN, PROCESSES_MAX

_PREFIX = "FLOWQ_"
# Variables that other parts of the project read: no typing mistakes, so no warning. FLOWQ_DEMO* belong to the example.
_VARIABLES_OF_OTHERS = ("FLOWQ_SERVER_BIN", "FLOWQ_S3_BIN")
_PREFIXES_OF_OTHERS = ("FLOWQ_DEMO", "FLOWQ_TEST", "FLOWQ_BENCH")


class SettingsWarning(UserWarning):
    """A `FLOWQ_*` variable that no setting has: probably a typing mistake."""


class S3Access(msgspec.Struct, frozen=True):
    """How to reach an S3 server. Empty fields fall back to boto3's own environment, files and roles.

    Attributes:
        endpoint_url: the server, such as `http://127.0.0.1:8333`; empty: AWS, or `AWS_ENDPOINT_URL_S3`.
        access_key: the access key id.
        secret_key: the secret access key.
        region: the region; S3 servers that are not AWS accept any.
    """

    endpoint_url: str = ""
    access_key: str = ""
    secret_key: str = ""
    region: str = ""

    def __repr__(self) -> str:
        return f"S3Access({self.endpoint_url or 'default'}, {self.access_key or 'default'}, ***)"


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker process runs: `[worker]` in flowq.toml, `FLOWQ_WORKER_*` in the environment.

    Attributes:
        concurrency: how many stages one child process runs at once.
        processes: how many child processes one worker has.
        queues: queue → how many of its stages run at once on this host; None: no limit of its own. Empty: all queues of
            the loaded stages. Written `gpu:1,cpu:2` in the environment.
        drain_timeout_ms: how long running stages may go on after SIGTERM before they are handed back.
        idle_timeout_ms: stop after this long without work, at least 100 ms; None: never.
        health_port: serve /livez, /readyz and /backlog on this port; None: don't.
        health_host: the address on which they are served; 0.0.0.0: all of this host.
    """

    concurrency: int = 50
    processes: int = 1
    queues: dict[str, int | None] = {}
    drain_timeout_ms: int = 30_000
    idle_timeout_ms: int | None = None
    health_port: int | None = None
    health_host: str = "127.0.0.1"


class Origin(NamedTuple):
    """Where a setting's value came from, for `flowq config`.

    Attributes:
        name: the setting, such as `worker.concurrency`.
        value: its value as text, passwords masked.
        source: `default`, `flag`, the variable's name, or the file's.
    """

    name: str
    value: str
    source: str


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a client or a worker needs to know.

    Attributes:
        url: the server's URL; empty: the project's own `.flowq/` if there is one.
        namespace: separates applications that share a server.
        artifacts: where artifacts are kept: `s3://bucket/prefix` or `file:/directory`; empty: what the embedded server
            offers, or none.
        worker: how a worker process runs.
        keep: what is kept of flows that have ended.
    """

    url: str = ""
    namespace: str = "flowq"
    artifacts: str = ""
    worker: WorkerSettings = WorkerSettings()
    keep: KeepSettings = KeepSettings()

    def __post_init__(self) -> None:
        """Refuses what no setting can be, whoever made it."""
        for name in ("url", "artifacts"):
            if not isinstance(value := getattr(self, name), str):
                raise InvalidValue(f"setting {name}", value, "text")
        check_namespace(self.namespace)
        if self.artifacts:
            check_location(self.artifacts)

    @classmethod
    def load(cls, directory: Path | None = None, environment: Mapping[str, str] | None = None, **explicit: Any) -> Settings:
        """Puts the sources together.

        Args:
            directory: where `flowq.toml` or `pyproject.toml` is looked for; the current directory by default.
            environment: `os.environ` by default.
            **explicit: settings by name, such as `url=` or `worker_concurrency=`; a value of None counts as not given.

        Raises:
            InvalidValue: a name no setting has (with the nearest one), a value of the wrong type, a file that is no TOML.

        Warns:
            SettingsWarning: a `FLOWQ_*` variable that nothing reads.
        """
        known = os.environ if environment is None else environment
        for variable in unknown_variables(known):
            advice = _advice(variable, _VARIABLES)
            warnings.warn(f"{variable} is set, but no setting has this name: {advice}", SettingsWarning, stacklevel=2)
        return _Merged(directory, known, explicit).settings()

    @classmethod
    def origins(
        cls, directory: Path | None = None, environment: Mapping[str, str] | None = None, **explicit: Any
    ) -> list[Origin]:
        """Like `load`, but says of each setting where its value came from."""
        merged = _Merged(directory, os.environ if environment is None else environment, explicit)
        shown = merged.settings().shown()
        return [Origin(name, value, merged.source_of.get(name, "default")) for name, value in shown.items()]

    def shown(self) -> dict[str, str]:
        """The settings for people, by dotted name, passwords masked."""
        client = {name: masked(getattr(self, name)) for name in self.__struct_fields__ if name not in _TABLES}
        inner = {f"{table}.{name}": value for table in _TABLES for name, value in structs.asdict(getattr(self, table)).items()}
        return client | {name.removesuffix("_ms"): _as_text(name, value) for name, value in inner.items()}


class _Merged:
    """The values that were given anywhere, by dotted name, and where the winning one came from."""

    def __init__(self, directory: Path | None, environment: Mapping[str, str], explicit: Mapping[str, Any]) -> None:
        self._values: dict[str, Any] = {}
        self.source_of: dict[str, str] = {}
        self._take_file(directory or Path.cwd())
        self._take_environment(environment)
        for name, value in explicit.items():
            if value is not None:
                self._take(_dotted(name), value, "flag")

    def settings(self) -> Settings:
        tables: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
        for name, value in self._values.items():
            if name in _READ:
                table, _, inner = name.partition(".")
                tables[table][_field_name(inner)] = _READ[name](value)
        client = {name: setting_values.text(name, value) for name, value in self._values.items() if name not in _READ}
        return Settings(**client, worker=WorkerSettings(**tables["worker"]), keep=KeepSettings(**tables["keep"]))

    def _take(self, name: str, value: Any, source: str) -> None:
        if name not in _NAMES:
            raise InvalidValue(f"setting in {source}", name, _advice(name, _NAMES))
        self._values[name] = value
        self.source_of[name] = source

    def _take_file(self, directory: Path) -> None:
        for file_name, table in (("flowq.toml", ()), ("pyproject.toml", ("tool", "flowq"))):
            content = _toml(directory / file_name, table)
            for name, value in content.items():
                if name in _TABLES and isinstance(value, dict):
                    for inner, inner_value in cast("dict[str, Any]", value).items():
                        self._take(f"{name}.{inner}", inner_value, file_name)
                else:
                    self._take(name, value, file_name)
            if content:
                return

    def _take_environment(self, environment: Mapping[str, str]) -> None:
        for variable, name in _VARIABLES.items():
            if environment.get(variable):
                self._take(name, environment[variable], variable)


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The `FLOWQ_*` variables that nothing reads."""
    return [
        name
        for name in sorted(environment)
        if name.startswith(_PREFIX)
        and name not in _VARIABLES
        and name not in _VARIABLES_OF_OTHERS
        and not name.startswith(_PREFIXES_OF_OTHERS)
    ]


def _toml(path: Path, table: Iterable[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content: Any = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidValue(str(path), "not TOML", str(error)) from None
    for step in table:
        content = content.get(step, {}) if hasattr(content, "get") else content
    if not isinstance(content, dict):
        raise InvalidValue(f"[{'.'.join(table)}] in {path}", content, "a table of settings")
    return cast("dict[str, Any]", content)


def _advice(name: str, known: Iterable[str]) -> str:
    names = list(known)
    nearest = difflib.get_close_matches(name, names, 1)
    return f"{nearest[0]}?" if nearest else f"one of {', '.join(names)}"


_TABLES = ("worker", "keep")
_OUTCOMES = ("completed", "failed", "cancelled")
_READ: dict[str, Callable[[Any], Any]] = {
    "worker.concurrency": setting_values.count("worker.concurrency", CONCURRENCY_MAX),
    "worker.processes": setting_values.count("worker.processes", PROCESSES_MAX),
    "worker.queues": setting_values.queues,
    "worker.drain_timeout": setting_values.duration("worker.drain_timeout"),
    "worker.idle_timeout": setting_values.duration("worker.idle_timeout", IDLE_MS_MIN),
    "worker.health_port": setting_values.count("worker.health_port", 65_535),
    "worker.health_host": setting_values.address,
    **{f"keep.{outcome}": setting_values.duration(f"keep.{outcome}") for outcome in _OUTCOMES},
    **{f"keep.{outcome}_most": setting_values.most(f"keep.{outcome}_most") for outcome in _OUTCOMES},
    "keep.archive": setting_values.switch("keep.archive"),
    "keep.artifacts": setting_values.switch("keep.artifacts"),
    "keep.logs": setting_values.duration("keep.logs"),
    "keep.events": setting_values.duration("keep.events"),
    "keep.events_most": setting_values.count("keep.events_most", EVENTS_MOST_MAX),
}
_NAMES = ("url", "namespace", "artifacts", *_READ)
_VARIABLES = {_PREFIX + name.replace(".", "_").upper(): name for name in _NAMES}


def _field_name(name: str) -> str:
    return f"{name}_ms" if name.endswith("_timeout") or name in (*_OUTCOMES, "logs", "events") else name


def _dotted(name: str) -> str:
    table, found, inner = name.partition("_")
    return f"{table}.{inner}" if found and table in _TABLES else name


def _as_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_ms"):
        return shown_duration(value / 1000)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        queues = cast("dict[str, int | None]", value)
        return ",".join(name if slots is None else f"{name}:{slots}" for name, slots in queues.items())
    return str(value)
