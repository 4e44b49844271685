"""Every exception that flowq raises, and the three a stage may raise to steer its own retry.

    FlowqError
    ├── InvalidValue              an argument, option, id, name, URL or setting is out of range
    │   └── WrongArguments        a stage or pipeline was called with arguments it does not take
    ├── DefinitionError           the pipeline itself is wrong; found before anything is written
    │   ├── StageNameTaken        two functions under one stage name
    │   ├── FlowIsEmpty           a pipeline that calls no stage
    │   ├── BodyFailed            a pipeline's own body raised an exception
    │   ├── FlowHasCycle          a → b → a
    │   ├── UnknownChild          a child that is no part of the graph
    │   ├── ResultNotReady        a promise used as a value while the body is traced
    │   ├── UnknownField          a part that a stage's declared result does not have
    │   ├── ResultDoesNotFit      a stage's result where a value of another type is declared
    │   ├── ForeignPromise        a promise used outside the run of the body that made it
    │   ├── NotAFlow              add() was given something that is no flow
    │   └── ModuleNotLoaded       MODULE or MODULE:PIPELINE can't be imported
    ├── ValueNotStorable          an input or a result that msgspec can't carry
    ├── ValueTooLarge             an input or a result above the limit
    ├── FlowConflict              the id is taken by a flow of another pipeline or with other inputs
    ├── FlowNotFound · StageNotFound · AmbiguousFlowId
    ├── FlowFailed · FlowCancelled · FlowTimedOut          what `result()` raises
    ├── NoStageContext            context() outside a stage
    ├── LimitNotSet               a stage uses a limit that nobody has set
    ├── ServerError               Redis/Valkey
    │   ├── ServerNotConfigured · ServerUnreachable · ServerRefusedLogin · ServerForbids · NotARedisServer
    │   ├── ServerTooOld · ServerEvicts · ServerIsReplica · ServerIsFull · ServerReadOnly
    │   ├── DurabilityUnavailable
    │   ├── SchemaNewer           the keys were written by a newer flowq
    │   └── CorruptState          a key of a flow does not hold what flowq wrote
    ├── StorageError              S3 or the artifact directory
    │   ├── StorageNotConfigured · StorageUnreachable · StorageForbids · BucketMissing
    │   ├── ArtifactMissing · ArtifactCorrupt
    │   ├── ArtifactNameInvalid · ArtifactNameTaken
    │   └── ArtifactMisused · ArtifactNotWritten
    ├── EmbeddedError             the embedded servers
    │   ├── DataDirectoryUnusable · EmbeddedServerMissing · EmbeddedServerFailed
    ├── ProgramFailed · ProgramStalled · ProgramTimedOut · ProgramStopped · ProgramNotStarted    what `context().run` raises
    ├── SlotsUnusable             the host's queue slots can't be kept in this directory
    ├── StageTimedOut
    ├── SignalTimedOut · SignalConflict · FlowHasEnded      signals
    └── SpawnedTooDeep            a stage spawned flows beneath flows without end
    Unrecoverable · RetryAfter    raised by stages; not errors of flowq

An error builds its message from its fields: what happened, to what, what to do. `problem` and `remedy` are kept
apart so that the command line and JSON can show them apart; `code` is the stable name that programs test for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHOWN_CHARS_MAX = 80
# What Python shows of objects that say nothing of themselves helps nobody, and differs each time.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


def shown(value: object, chars_max: int = _SHOWN_CHARS_MAX) -> str:
    """A value as it may stand in a message: one line, escaped, at most 80 characters if not said otherwise."""
    try:
        text = repr(value)
    except Exception:  # a user's __repr__ may raise; the message must still be made
        text = f"<{type(value).__name__}>"
    text = _ADDRESS.sub("", text)
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def masked(url: str) -> str:
    """The URL without its password, as every message, log and report shows it."""
    url = re.sub(r"(://[^:/@?#]*):.*@", r"\1:***@", url)
    return re.sub(r"((?:password|secret|token)[a-z_]*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


class FlowqError(Exception):
    """Base of all errors of flowq.

    Attributes:
        problem: what happened, to what.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable machine-readable name of this error: the class name in snake case."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


class InvalidValue(FlowqError):
    """A value is out of range: names the field, shows the value, says what is expected."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} is {shown(value)}", f"expected {expected}")
        self.field = field


class WrongArguments(InvalidValue):
    """A stage or pipeline was called with arguments it does not take, or without one it needs."""

    def __init__(self, callee: str, problem: str, signature: str) -> None:
        FlowqError.__init__(self, f"{callee}() {problem}", f"it takes {signature}")
        self.field = callee


class DefinitionError(FlowqError):
    """The definition of a stage, pipeline or graph is wrong."""


class StageNameTaken(DefinitionError):
    """Two functions were given one stage name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"stage name {name!r} is taken: {first} and {second} both use it",
            f"rename one of the functions, or give it a name of its own: @stage(name='{name}_2')",
        )


class FlowIsEmpty(DefinitionError):
    """A pipeline called no stage."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(f"pipeline {pipeline!r} has no stages", "call at least one stage in its body")


class BodyFailed(DefinitionError):
    """A pipeline's own body raised an exception, which is the cause of this one."""

    def __init__(self, pipeline: str, error: Exception, where: str) -> None:
        super().__init__(
            f"the body of pipeline {pipeline!r} raised {shown(error, 300)} ({where})",
            "correct that line, or the inputs",
        )


class FlowHasCycle(DefinitionError):
    """The graph has a cycle; `path` is a shortest one, its first node repeated at its end."""

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__(f"flow has a cycle: {' → '.join(path)}", "remove one of these edges")
        self.path = tuple(path)


class UnknownChild(DefinitionError):
    """A stage names a child that is no part of the graph."""

    def __init__(self, stage: str, child: object, nearest: str | None = None) -> None:
        remedy = f"did you mean {nearest!r}?" if nearest else "add it to the graph, or remove the reference"
        super().__init__(f"stage {stage!r} waits for {shown(child)}, which is no stage of this flow", remedy)


class ResultNotReady(DefinitionError):
    """A stage's result was used as a value while the pipeline's body was traced."""

    def __init__(self, promise: str, use: str, where: str) -> None:
        super().__init__(
            f"{promise} is unknown until its stage has run, so it can't be {use} ({where})",
            "pass it to a stage as it is, or move this line into a stage",
        )


class UnknownField(DefinitionError):
    """A part of a stage's result was named that its declared type does not have, or may not have."""

    def __init__(self, promise: str, field: str, where: str, remedy: str) -> None:
        super().__init__(f"{promise} has no declared part {field} ({where})", remedy)


class ResultDoesNotFit(DefinitionError):
    """A stage's result was put where a value of another type is declared, so that every flow would fail there."""

    def __init__(self, place: str, wanted: str, promise: str, given: str, where: str) -> None:
        super().__init__(
            f"{place} is declared as {wanted}, but {promise} gives {given} ({where})",
            "put another result there, or correct one of the two annotations",
        )


class ForeignPromise(DefinitionError):
    """A promise was used outside the run of the pipeline's body that made it."""

    def __init__(self, promise: str, used_by: str) -> None:
        super().__init__(
            f"{used_by} got {promise}, the promise of another run of a pipeline's body",
            "call the stage in the same body; promises can't be kept for later",
        )


class NotAFlow(DefinitionError):
    """`add` was given something that is no flow."""

    def __init__(self, value: object, remedy: str) -> None:
        super().__init__(f"{shown(value)} is no flow", remedy)


class ModuleNotLoaded(DefinitionError):
    """A module, or a name in it, could not be loaded."""


class ValueNotStorable(FlowqError):
    """An input or a result can't be stored.

    Attributes:
        where: the stage or pipeline whose value it is.
        path: the field inside the value, such as `video.frames[3]`.
    """

    def __init__(self, where: str, path: str, reason: str) -> None:
        super().__init__(
            f"{where}: {path} can't be stored: {reason}",
            "use numbers, text, bytes, lists, dicts with text keys, dataclasses or msgspec.Struct; "
            "write large or binary data to an artifact",
        )
        self.where = where
        self.path = path


class ValueTooLarge(FlowqError):
    """An input or a result is above the limit."""

    def __init__(self, where: str, path: str, size_bytes: int, limit_bytes: int, remedy: str) -> None:
        super().__init__(f"{where}: {path} takes {size_bytes:,} bytes, more than {limit_bytes:,}", remedy)


class FlowConflict(FlowqError):
    """The id belongs to a flow of another pipeline or with other inputs.

    Attributes:
        flow_id: the id.
    """

    def __init__(self, flow_id: str, difference: str = "of another pipeline or with other inputs") -> None:
        super().__init__(
            f"flow id {flow_id!r} is taken by a flow {difference}",
            "use another id, or read the existing flow with producer.flow(id)",
        )
        self.flow_id = flow_id


class FlowNotFound(FlowqError):
    """No flow has this id."""

    def __init__(self, flow_id: str) -> None:
        super().__init__(
            f"no flow {flow_id!r} here",
            "it may have been pruned, or live in another namespace or server: see `flowq list`",
        )


class AmbiguousFlowId(FlowqError):
    """More than one flow id begins with this prefix."""

    def __init__(self, prefix: str, candidates: Sequence[str]) -> None:
        super().__init__(f"{prefix!r} is the beginning of {len(candidates)} flow ids", f"one of: {', '.join(candidates[:5])}")


class StageNotFound(FlowqError):
    """The flow has no such stage."""

    def __init__(self, flow_id: str, stage: str, names: Sequence[str]) -> None:
        super().__init__(f"flow {flow_id!r} has no stage {stage!r}", f"its stages: {', '.join(names[:20])}")


def _shortened(flow_id: str) -> str:
    """The id of a flow deep in a tree without those between: what failed must stand within the length of a message."""
    root, mark, name = flow_id.partition("^")[0], "^…^", flow_id.rpartition("^")[2]
    return flow_id if len(flow_id) <= 100 or root == name else f"{root}{mark}{name}"


class FlowFailed(FlowqError):
    """The flow failed.

    Attributes:
        flow_id: the flow.
        stage: the stage whose failure is the root cause.
        error_type: the exception's type, such as `ValueError`.
        message: the exception's text.
        traceback: the stage's traceback, at most 3,000 characters.
    """

    def __init__(self, flow_id: str, stage: str, error_type: str, message: str, traceback: str = "") -> None:
        super().__init__(
            f"flow {_shortened(flow_id)!r} failed at {stage}: {error_type}: {message}",
            f"see `flowq inspect {flow_id}`; `flowq retry {flow_id}` runs only what has not completed",
        )
        self.flow_id = flow_id
        self.stage = stage
        self.error_type = error_type
        self.message = message
        self.traceback = traceback


class FlowCancelled(FlowqError):
    """The flow was cancelled."""

    def __init__(self, flow_id: str, reason: str) -> None:
        super().__init__(f"flow {flow_id!r} was cancelled{': ' + reason if reason else ''}")
        self.flow_id = flow_id
        self.reason = reason


class FlowTimedOut(FlowqError, TimeoutError):
    """`result(timeout=…)` ran out. The flow itself goes on."""

    def __init__(self, flow_id: str, seconds: float) -> None:
        super().__init__(f"flow {flow_id!r} has not ended after {seconds:g} s", "it goes on: wait longer, or cancel it")


class NoStageContext(FlowqError):
    """`context()` was called outside a stage."""

    def __init__(self) -> None:
        super().__init__(
            "context() works only while a stage runs",
            "to test a stage's function, use `with flowq.testing.stage_context(tmp_path):`",
        )


class ServerError(FlowqError):
    """Redis/Valkey can't be used."""


class ServerNotConfigured(ServerError):
    """No server was named and the project has none of its own."""

    def __init__(self) -> None:
        super().__init__(
            "no server: no URL was given, FLOWQ_URL is not set, and there is no .flowq/ here",
            "start one with `flowq dev`; or set FLOWQ_URL=redis://host:6379; or pass the URL 'embedded:'",
        )


class ServerUnreachable(ServerError):
    """Nothing answers at the URL, or it stopped answering for longer than the call may wait."""

    def __init__(self, url: str, reason: str) -> None:
        remedy = "check the host and port, that the server runs, and the network between"
        if url.startswith("unix:"):
            from urllib.parse import unquote, urlsplit

            remedy = f"check that a server listens on the socket {unquote(urlsplit(url).path)}, and that this user may open it"
        super().__init__(f"the server at {masked(url)} does not answer: {reason}", remedy)


class ServerRefusedLogin(ServerError):
    """User or password is wrong or missing."""

    def __init__(self, url: str) -> None:
        form = "unix://user:password@/path/to/socket" if url.startswith("unix:") else "redis://user:password@host:6379"
        super().__init__(f"the server at {masked(url)} refused the login", f"set user and password in the URL: {form}")


class ServerForbids(ServerError):
    """The server's access rules forbid a command that flowq needs."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"the server at {masked(url)} forbids what flowq needs: {reason}",
            "grant this user the keys ~{flowq* and the channels &{flowq* (flowq: your namespace), and +@all -@dangerous +info",
        )


class NotARedisServer(ServerError):
    """Something else than Redis or Valkey answers at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"what answers at {masked(url)} is no Redis or Valkey: {reason}", "check the host and port of the URL")


class ServerTooOld(ServerError):
    """The server is older than flowq supports."""

    def __init__(self, url: str, version: str) -> None:
        super().__init__(f"the server at {masked(url)} is {version}", "flowq needs Redis ≥ 7.0 or Valkey ≥ 7.2: upgrade it")


class ServerEvicts(ServerError):
    """The server would throw away keys when its memory is full."""

    def __init__(self, url: str, policy: str) -> None:
        super().__init__(
            f"the server at {masked(url)} evicts keys (maxmemory-policy {policy}), so flows could vanish",
            "set `maxmemory-policy noeviction`, or use a server that is no cache",
        )


class ServerIsReplica(ServerError):
    """The server is a read-only replica."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the server at {masked(url)} is a replica and refuses writes", "use the URL of its primary")


class ServerIsFull(ServerError):
    """The server has reached maxmemory; nothing was written."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"the server at {masked(url)} is out of memory; nothing was written",
            "running flows drain it; or raise maxmemory, or shorten the retention of finished flows",
        )


class ServerReadOnly(ServerError):
    """The server refuses writes because it can't persist them (disk full, snapshot failing)."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the server at {masked(url)} refuses writes: {reason}", "free disk space on the server; see its log")


class DurabilityUnavailable(ServerError):
    """The promised durability can't be kept by this server; nothing was written."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(
            f"durability='fsync' needs `appendfsync always`, the server at {masked(url)} has {found}",
            "set appendonly yes and appendfsync always on the server, or drop the durability option",
        )


class SchemaNewer(ServerError):
    """The keys in this namespace were written by a newer flowq."""

    def __init__(self, namespace: str, found: int, known: int) -> None:
        super().__init__(
            f"namespace {namespace!r} has schema {found}, this flowq knows {known}",
            "upgrade flowq here, or use another namespace",
        )


class CorruptState(ServerError):
    """A key does not hold what flowq wrote: overwritten, deleted by hand, or damaged."""

    def __init__(self, flow_id: str, key: str, reason: str) -> None:
        super().__init__(f"flow {flow_id!r} is damaged: {key}: {reason}", "submit it again; other flows are not affected")


class StorageError(FlowqError):
    """Artifacts can't be read or written."""


class StorageNotConfigured(StorageError):
    """A stage or call needs artifact storage and none is configured."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"{why}, and no artifact storage is configured", "set FLOWQ_ARTIFACTS=s3://bucket/prefix or file:/a/directory"
        )


class StorageUnreachable(StorageError):
    """The object storage does not answer, or the directory's filesystem fails."""

    def __init__(self, location: str, reason: str, remedy: str = "") -> None:
        super().__init__(
            f"artifact storage {masked(location)} does not answer: {reason}",
            remedy or "check AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL), the region and the network",
        )


class StorageForbids(StorageError):
    """The credentials or this user lack a right, or there are no credentials."""

    def __init__(self, location: str, reason: str, remedy: str = "") -> None:
        super().__init__(
            f"artifact storage {masked(location)} refused the request: {reason}",
            remedy or "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and grant put, get, list and delete on the prefix",
        )


class BucketMissing(StorageError):
    """The bucket does not exist."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"there is no bucket {bucket!r}", "create it, or correct FLOWQ_ARTIFACTS")


class ArtifactMissing(StorageError):
    """The object of an artifact is gone."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"artifact {key} is not in the storage",
            "it was deleted by hand or by a lifecycle rule: retry the flow from the stage that made it",
        )


class ArtifactCorrupt(StorageError):
    """The bytes in the storage are not those that were written."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"artifact {key} is damaged: {reason}", "retry the flow from the stage that made it")


class ArtifactNameInvalid(StorageError):
    """A name or key that could leave the stage's own folder."""

    def __init__(self, name: object, expected: str) -> None:
        super().__init__(f"artifact name {shown(name)} is refused", f"expected {expected}")


class ArtifactNameTaken(StorageError):
    """One attempt of a stage wrote two artifacts under one name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"artifact {key} exists already", "give each artifact of a stage a name of its own")


class ArtifactMisused(StorageError):
    """A sink was used in a way that can't make one artifact: after its end, twice, or by write and path at once."""

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"artifact {name!r}: {reason}", remedy)


class ArtifactNotWritten(StorageError):
    """What stands at `sink.path`, or at a path to upload, is no file that can be stored."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"artifact {name!r} can't be stored: {reason}",
            "have one regular file written there, and closed, before the block ends",
        )


class EmbeddedError(FlowqError):
    """An embedded server can't be used."""


class DataDirectoryUnusable(EmbeddedError):
    """The data directory can't be created, written or locked."""

    def __init__(self, directory: str, reason: str, remedy: str) -> None:
        super().__init__(f"data directory {directory}: {reason}", remedy)


class EmbeddedServerMissing(EmbeddedError):
    """No server binary was found."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"no {what} binary found", remedy)


class EmbeddedServerFailed(EmbeddedError):
    """The server binary did not start; carries the last lines of its log."""

    def __init__(self, what: str, log_tail: str, remedy: str) -> None:
        super().__init__(f"the embedded {what} did not start: {log_tail}", remedy)


class ProgramFailed(FlowqError):
    """A program that a stage ran ended with an error.

    Attributes:
        argv: the command.
        exit_code: its exit code; negative: the signal that killed it.
        stderr_tail: the last 2,000 characters it wrote to stderr.
    """

    def __init__(self, argv: Sequence[str], exit_code: int, stderr_tail: str) -> None:
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        last = stderr_tail.strip().splitlines()[-1] if stderr_tail.strip() else "it wrote nothing to stderr"
        super().__init__(f"{argv[0]} {how}: {last}")
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class ProgramStalled(FlowqError):
    """A program made no progress for longer than `stall` and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"{argv[0]} made no progress for {seconds:g} s and was killed", "raise stall=, or find what it waits for"
        )
        self.argv = tuple(argv)


class ProgramTimedOut(FlowqError, TimeoutError):
    """A program ran longer than its `timeout` and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"{argv[0]} ran longer than its timeout of {seconds:g} s and was killed", "raise timeout=, or give it less to do"
        )
        self.argv = tuple(argv)


class ProgramStopped(FlowqError):
    """A program was stopped because the stage that ran it was cancelled, timed out or lost its lease."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(f"{argv[0]} was stopped together with its stage")
        self.argv = tuple(argv)


class ProgramNotStarted(FlowqError):
    """A program could not be started: it is missing, is not executable, or the system refused."""

    def __init__(self, argv: Sequence[str], reason: str, remedy: str) -> None:
        super().__init__(f"{shown(argv[0]) if argv else 'the program'} was not started: {reason}", remedy)
        self.argv = tuple(argv)


class SlotsUnusable(FlowqError):
    """The directory in which the processes of a host share their queue slots can't be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"queue slots can't be kept in {path}: {reason}",
            "name a directory on a local disk that belongs to this user, with mode 0700",
        )


class StageTimedOut(FlowqError):
    """The stage ran longer than its timeout."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(
            f"stage {stage} ran longer than its timeout of {seconds:g} s", "raise timeout= on the stage, or make it faster"
        )


class LimitNotSet(FlowqError):
    """A stage uses a limit that nobody has set: unlimited by mistake is worse than failed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no limit {name!r}", f"set it: flowq limits set {name} --rate requests=100/m")
        self.name = name


class SignalTimedOut(FlowqError, TimeoutError):
    """A stage waited for a signal that did not come in time, and has no default."""

    def __init__(self, stage: str, signal: str) -> None:
        super().__init__(
            f"stage {stage} waited for signal {signal!r}, which did not come in time",
            "retry the flow to wait again; or give wait_for_signal a default",
        )
        self.stage = stage
        self.signal = signal


class SignalConflict(FlowqError):
    """Another value was sent under this name before: the first counts."""

    def __init__(self, flow_id: str, signal: str) -> None:
        super().__init__(
            f"flow {flow_id!r} has got signal {signal!r} with another value", "the first value counts; use another name for more"
        )
        self.flow_id = flow_id
        self.signal = signal


class FlowHasEnded(FlowqError):
    """The flow has ended, so nothing in it waits for what was sent."""

    def __init__(self, flow_id: str, state: str) -> None:
        super().__init__(f"flow {flow_id!r} is {state}: nothing in it waits any more", "retry it first, if it is to run again")
        self.flow_id = flow_id
        self.state = state


class SpawnedTooDeep(FlowqError):
    """A stage spawned a flow beneath more flows than may stand above one."""

    def __init__(self, stage: str, depth_max: int) -> None:
        super().__init__(
            f"stage {stage} would spawn a flow with more than {depth_max} flows above it",
            "does a pipeline spawn itself without end? Give it an end, or spawn side by side",
        )
        self.stage = stage


class Unrecoverable(Exception):
    """Raise it in a stage to fail for good, whatever attempts are left."""


class RetryAfter(Exception):
    """Raise it in a stage to be retried when the other side said (HTTP 429, Retry-After).

    Args:
        duration: how long to wait: a `timedelta`, seconds, or a string such as `"90s"`.
        message: why, shown in `flowq inspect`.
        uses_attempt: whether this run counts against the stage's attempts; at most 100 free ones are given.
    """

    def __init__(self, duration: object, message: str = "", *, uses_attempt: bool = True) -> None:
        super().__init__(message or f"retry after {duration}")
        self.duration = duration
        self.uses_attempt = uses_attempt
