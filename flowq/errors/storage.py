"""What is wrong with the artifact storage, or with how a stage used it."""

from __future__ import annotations

from flowq.errors.root import FlowqError, masked, shown


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
