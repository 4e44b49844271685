"""Artifacts in S3 or any server that speaks it. Streamed both ways; large objects in parts of 8 MiB.

Nothing here decides correctness by listing, and nothing in a key or artifact can choose the server: only the configuration can.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, BinaryIO, cast
from uuid import uuid4

from flowq.artifacts.cache import LocalCache
from flowq.artifacts.keys import ObjectPlace, place_of
from flowq.artifacts.part_threads import PartThreads
from flowq.artifacts.ranges import RangeReader
from flowq.artifacts.s3_client import Body, Connection, Reply, is_broken_read
from flowq.artifacts.s3_upload import S3Upload
from flowq.artifacts.storage import PendingUpload, Storage, StoredObject, check_size
from flowq.artifacts.upload import Upload
from flowq.errors import ArtifactCorrupt, ArtifactMissing, StorageError, StorageForbids
from flowq.model.artifact import Artifact
from flowq.settings import S3Access

_UPLOAD_THREADS = 8
_CLOSE_SECONDS_MAX = 5.0
# S3's own limits.
_PAGE_KEYS = 1_000
_DELETE_KEYS = 1_000
# Small, because what a broken connection had delivered of a chunk is lost.
_CHUNK_BYTES = 256 * 1024
# How often a body that breaks off is resumed without a byte of progress; the first request has botocore's own retries.
_RESUMES_MAX = 3
_RESUME_PAUSE_SECONDS = 0.2


class S3Storage(Storage):
    """Artifacts in one bucket, under one prefix. Reads other buckets where an artifact names them."""

    def __init__(self, bucket: str, prefix: str, access: S3Access | None = None, cache: LocalCache | None = None) -> None:
        super().__init__(f"s3://{bucket}/{prefix}".rstrip("/"), prefix, cache)
        self._bucket = bucket
        self._connection = Connection(self.location, access)
        self._part_threads = PartThreads(_UPLOAD_THREADS)
        self._close_lock = threading.Lock()

    def begin(self, key: str, content_type: str) -> Upload:
        """See `Storage.begin`."""
        return S3Upload(self._connection, self._part_threads, self._bucket, key, content_type)

    def open(self, artifact: Artifact) -> BinaryIO:
        """See `Storage.open`."""
        place = self._place(artifact)
        head = self._head(place)
        check_size(artifact, _stored(artifact.key, head))
        etag = str(head["ETag"])

        def fetch_range(start: int, end: int) -> bytes:
            data = b"".join(self._chunks(place, start, end, etag))
            if len(data) != end - start:  # a short range would read as the end of the object
                raise ArtifactCorrupt(artifact.key, f"{len(data):,} bytes came of the {end - start:,} that were asked for")
            return data

        return cast("BinaryIO", io.BufferedReader(RangeReader(int(head["ContentLength"]), fetch_range), 64 * 1024))

    def stream(self, artifact: Artifact) -> Iterator[bytes]:
        """See `Storage.stream`."""
        return self._chunks(self._place(artifact))

    def stat(self, artifact: Artifact) -> StoredObject:
        """See `Storage.stat`."""
        return _stored(artifact.key, self._head(self._place(artifact)))

    def _url(self, artifact: Artifact, seconds: int) -> str:
        place = self._place(artifact)
        name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in artifact.name)
        with self._connection.named_errors(place.bucket, place.key):
            return self._connection.client().generate_presigned_url(
                "get_object",
                # As an attachment: a page that a stage made must not run in the storage's origin when it is opened.
                Params={"Bucket": place.bucket, "Key": place.key, "ResponseContentDisposition": f'attachment; filename="{name}"'},
                ExpiresIn=seconds,
                HttpMethod="GET",
            )

    def check(self) -> None:
        """See `Storage.check`. Answers within about 10 s when the server is away."""
        self._refuse_when_closed()
        probe = "/".join(part for part in (self.prefix, f"flowq-probe-{uuid4().hex}") if part)
        client = self._connection.new_client(connect_seconds=3, read_seconds=5, attempts=2)
        try:
            # A HEAD tells a missing bucket before a put would create it (some servers do), but its refusals tell no cause.
            with suppress(StorageForbids), self._connection.named_errors(self._bucket):
                client.head_bucket(Bucket=self._bucket)
            with self._connection.named_errors(self._bucket):
                client.put_object(Bucket=self._bucket, Key=probe, Body=probe.encode())
                read = cast("Body", client.get_object(Bucket=self._bucket, Key=probe)["Body"]).read()
                client.list_objects_v2(Bucket=self._bucket, Prefix=probe, MaxKeys=1)
                client.delete_object(Bucket=self._bucket, Key=probe)
        finally:
            client.close()
        if read != probe.encode():
            raise ArtifactCorrupt(probe, "it was read differently from what was written")

    def objects(self, folder_prefix: str = "") -> Iterator[StoredObject]:
        """See `Storage.objects`; here in the order of their keys."""
        self._refuse_when_closed()
        following: dict[str, Any] = {}
        while True:
            with self._connection.named_errors(self._bucket):
                page = self._connection.client().list_objects_v2(
                    Bucket=self._bucket, Prefix=self._key_prefix() + folder_prefix, MaxKeys=_PAGE_KEYS, **following
                )
            for entry in page.get("Contents", ()):
                yield StoredObject(entry["Key"], int(entry["LastModified"].timestamp() * 1000), entry["Size"])
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, keys: Iterable[str]) -> None:
        """See `Storage.delete`."""
        self._refuse_when_closed()
        remaining = iter(keys)
        while batch := [self._checked_own(key) for key in islice(remaining, _DELETE_KEYS)]:
            with self._connection.named_errors(self._bucket):
                reply = self._connection.client().delete_objects(
                    Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            for failure in reply.get("Errors", ()):
                if failure.get("Code") not in ("NoSuchKey", "404"):
                    raise StorageForbids(self._connection.shown, f"deleting {failure.get('Key')}: {failure.get('Code')}")

    def pending_uploads(self) -> Iterator[PendingUpload]:
        """See `Storage.pending_uploads`."""
        self._refuse_when_closed()
        following: dict[str, Any] = {}
        while True:
            with self._connection.named_errors(self._bucket):
                page = self._connection.client().list_multipart_uploads(
                    Bucket=self._bucket, Prefix=self._key_prefix(), MaxUploads=_PAGE_KEYS, **following
                )
            uploads = page.get("Uploads", [])
            for entry in uploads:
                yield PendingUpload(entry["Key"], entry["UploadId"], int(entry["Initiated"].timestamp() * 1000))
            if not page.get("IsTruncated") or not uploads:
                return
            # Some servers leave the markers out; the last upload of the page says the same.
            marker = page.get("NextKeyMarker") or uploads[-1]["Key"]
            upload_marker = page.get("NextUploadIdMarker") or uploads[-1]["UploadId"]
            if marker < following.get("KeyMarker", "") or upload_marker == following.get("UploadIdMarker"):
                return  # pages in no order (SeaweedFS 4.48) could go round for ever; the next sweep finds the rest
            following = {"KeyMarker": marker, "UploadIdMarker": upload_marker}

    def abort_upload(self, upload: PendingUpload) -> None:
        """See `Storage.abort_upload`."""
        self._refuse_when_closed()
        key = self._checked_own(upload.key)
        try:
            with self._connection.named_errors(self._bucket, key):
                self._connection.client().abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload.id)
        except StorageError as error:
            if "NoSuchUpload" not in error.problem:
                raise

    def close(self) -> None:
        """See `Storage.close`. Waits for parts that are being sent, at most 5 s: a server may stay silent for minutes."""
        with self._close_lock:
            super().close()
            self._part_threads.close(_CLOSE_SECONDS_MAX)
            self._connection.close()

    def _chunks(self, place: ObjectPlace, start: int = 0, end: int | None = None, etag: str = "") -> Iterator[bytes]:
        """The bytes from `start` up to `end`; goes on where a connection broke, but only in the same object."""
        failures = 0
        while end is None or start < end:
            with self._connection.named_errors(place.bucket, place.key):
                reply = self._get(place, start, end, etag)
                etag = etag or str(reply["ETag"])
                body = cast("Body", reply["Body"])
                try:
                    while chunk := body.read(_CHUNK_BYTES):
                        start += len(chunk)
                        failures = 0
                        yield chunk
                    return
                except Exception as error:  # which of them means a broken body, `is_broken_read` knows; the others go on up
                    failures += 1
                    if failures > _RESUMES_MAX or not is_broken_read(error):
                        raise
                finally:
                    body.close()
            time.sleep(_RESUME_PAUSE_SECONDS * failures)

    def _get(self, place: ObjectPlace, start: int, end: int | None, etag: str) -> Reply:
        parameters: dict[str, Any] = {"Bucket": place.bucket, "Key": place.key}
        if start or end is not None:
            parameters["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        if etag:
            parameters["IfMatch"] = etag
        return self._connection.client().get_object(**parameters)

    def _head(self, place: ObjectPlace) -> Reply:
        try:
            with self._connection.named_errors(place.bucket, place.key):
                return self._connection.client().head_object(Bucket=place.bucket, Key=place.key)
        except ArtifactMissing:
            # A HEAD has no body that could say which of the two is missing.
            with self._connection.named_errors(place.bucket):
                self._connection.client().head_bucket(Bucket=place.bucket)
            raise

    def _place(self, artifact: Artifact) -> ObjectPlace:
        self._refuse_when_closed()
        place = place_of(artifact)
        return ObjectPlace(place.bucket or self._bucket, place.key)

    def _key_prefix(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""


def _stored(key: str, head: Reply) -> StoredObject:
    return StoredObject(key, int(head["LastModified"].timestamp() * 1000), int(head["ContentLength"]))
