"""Every exception that flowq raises, and the two a stage may raise to steer its own retry.

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
    ├── FlowNotFound · StageNotFound · ScheduleNotFound · AmbiguousFlowId
    │   └── FlowNotMade           of a schedule that somebody has run: no worker has made it yet, or it was cancelled before
    ├── RetryOutOfTurn            what runs after the flow's end, or another of its key, has not ended; or it was superseded
    ├── FlowFailed                what `result()` raises
    │   └── FlowDeadlinePassed    it had not completed at its deadline
    ├── FlowCancelled · FlowTimedOut
    ├── NoStageContext            context() outside a stage
    ├── LimitNotSet               a stage uses a limit that nobody has set
    ├── ServerError               Redis/Valkey
    │   ├── ServerNotConfigured · ServerUnreachable · ServerRefusedLogin · ServerForbids · NotARedisServer
    │   ├── WrongKindOfServer     a cluster, a Sentinel or a server alone, where the URL says another
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
    ├── StageTimedOut · StageStalled
    ├── SignalTimedOut · SignalConflict · FlowHasEnded      signals
    └── SpawnedTooDeep            a stage spawned flows beneath flows without end
    Unrecoverable · RetryAfter    raised by stages; not errors of flowq

An error builds its message from its fields: what happened, to what, what to do. `problem` and `remedy` are kept
apart so that the command line and JSON can show them apart; `code` is the stable name that programs test for.
"""

from __future__ import annotations

from flowq.errors.definition import (
    BodyFailed,
    DefinitionError,
    FlowHasCycle,
    FlowIsEmpty,
    ForeignPromise,
    ModuleNotLoaded,
    NotAFlow,
    ResultDoesNotFit,
    ResultNotReady,
    StageNameTaken,
    UnknownChild,
    UnknownField,
)
from flowq.errors.embedded import DataDirectoryUnusable, EmbeddedError, EmbeddedServerFailed, EmbeddedServerMissing
from flowq.errors.flows import (
    AmbiguousFlowId,
    FlowCancelled,
    FlowConflict,
    FlowDeadlinePassed,
    FlowFailed,
    FlowHasEnded,
    FlowNotFound,
    FlowNotMade,
    FlowTimedOut,
    RetryOutOfTurn,
    ScheduleNotFound,
    SignalConflict,
    StageNotFound,
)
from flowq.errors.root import FlowqError, masked, shown
from flowq.errors.running import (
    LimitNotSet,
    NoStageContext,
    ProgramFailed,
    ProgramNotStarted,
    ProgramStalled,
    ProgramStopped,
    ProgramTimedOut,
    SignalTimedOut,
    SlotsUnusable,
    SpawnedTooDeep,
    StageStalled,
    StageTimedOut,
)
from flowq.errors.server import (
    CorruptState,
    DurabilityUnavailable,
    NotARedisServer,
    SchemaNewer,
    ServerError,
    ServerEvicts,
    ServerForbids,
    ServerIsFull,
    ServerIsReplica,
    ServerNotConfigured,
    ServerReadOnly,
    ServerRefusedLogin,
    ServerTooOld,
    ServerUnreachable,
    WrongKindOfServer,
)
from flowq.errors.steering import RetryAfter, Unrecoverable
from flowq.errors.storage import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactMisused,
    ArtifactNameInvalid,
    ArtifactNameTaken,
    ArtifactNotWritten,
    BucketMissing,
    StorageError,
    StorageForbids,
    StorageNotConfigured,
    StorageUnreachable,
)
from flowq.errors.values import InvalidValue, ValueNotStorable, ValueTooLarge, WrongArguments

__all__ = [
    "AmbiguousFlowId",
    "ArtifactCorrupt",
    "ArtifactMissing",
    "ArtifactMisused",
    "ArtifactNameInvalid",
    "ArtifactNameTaken",
    "ArtifactNotWritten",
    "BodyFailed",
    "BucketMissing",
    "CorruptState",
    "DataDirectoryUnusable",
    "DefinitionError",
    "DurabilityUnavailable",
    "EmbeddedError",
    "EmbeddedServerFailed",
    "EmbeddedServerMissing",
    "FlowCancelled",
    "FlowConflict",
    "FlowDeadlinePassed",
    "FlowFailed",
    "FlowHasCycle",
    "FlowHasEnded",
    "FlowIsEmpty",
    "FlowNotFound",
    "FlowNotMade",
    "FlowTimedOut",
    "FlowqError",
    "ForeignPromise",
    "InvalidValue",
    "LimitNotSet",
    "ModuleNotLoaded",
    "NoStageContext",
    "NotAFlow",
    "NotARedisServer",
    "ProgramFailed",
    "ProgramNotStarted",
    "ProgramStalled",
    "ProgramStopped",
    "ProgramTimedOut",
    "ResultDoesNotFit",
    "ResultNotReady",
    "RetryAfter",
    "RetryOutOfTurn",
    "ScheduleNotFound",
    "SchemaNewer",
    "ServerError",
    "ServerEvicts",
    "ServerForbids",
    "ServerIsFull",
    "ServerIsReplica",
    "ServerNotConfigured",
    "ServerReadOnly",
    "ServerRefusedLogin",
    "ServerTooOld",
    "ServerUnreachable",
    "SignalConflict",
    "SignalTimedOut",
    "SlotsUnusable",
    "SpawnedTooDeep",
    "StageNameTaken",
    "StageNotFound",
    "StageStalled",
    "StageTimedOut",
    "StorageError",
    "StorageForbids",
    "StorageNotConfigured",
    "StorageUnreachable",
    "UnknownChild",
    "UnknownField",
    "Unrecoverable",
    "ValueNotStorable",
    "ValueTooLarge",
    "WrongArguments",
    "WrongKindOfServer",
    "masked",
    "shown",
]

# Users know them by the name they import them by: tracebacks, logs and pickles name that, and not the file it is written in.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
