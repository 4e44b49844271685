"""One object on its way to S3: a single put when it is small, else a multipart upload with one part under way.

At most two parts are in memory: one being filled by the caller, one being sent by a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any
from uuid import uuid4

from flowq.artifacts.part_threads import PartThreads
from flowq.artifacts.s3_client import Connection, Reply, code_of
from flowq.artifacts.upload import Bytes, Upload
from flowq.errors import ArtifactNameTaken

CHECKSUM_FIELD = "flowq-sha256"
_UPLOAD_FIELD = "flowq-upload"
# S3 asks for a repetition when two conditional writes of one key cross.
_CONFLICT_TRIES = 3
_LAST_PART_SECONDS_MAX = 10.0


class S3Upload(Upload):
    """See the module's header. A key is written once: whoever comes second is refused."""

    def __init__(self, connection: Connection, threads: PartThreads, bucket: str, key: str, content_type: str) -> None:
        self._connection = connection
        self._threads = threads
        self._bucket = bucket
        self._key = key
        self._content_type = content_type
        # Tells this upload's object from any other's when a reply was lost and the request was sent again.
        self._mark = uuid4().hex
        self._upload_id = ""
        self._sent: list[Future[dict[str, Any]]] = []

    def send(self, part: Bytes) -> None:
        if not self._upload_id:
            self._upload_id = self._begun()
        if self._sent:
            self._sent[-1].result()
        self._sent.append(self._threads.start(self._send_part, len(self._sent) + 1, part))

    def finish(self, last: Bytes, checksum: str) -> None:
        client = self._connection.client()
        if not self._upload_id:
            metadata = {CHECKSUM_FIELD: checksum, _UPLOAD_FIELD: self._mark}
            self._publish(client.put_object, checksum, Body=last, ContentType=self._content_type, Metadata=metadata)
            return
        if last:
            self.send(last)
        parts = [sent.result() for sent in self._sent]
        self._publish(client.complete_multipart_upload, checksum, UploadId=self._upload_id, MultipartUpload={"Parts": parts})
        self._upload_id = ""

    def abort(self) -> None:
        for sent in self._sent:
            sent.cancel()
        # A part that arrives after the abort would be kept, and paid for, until somebody looks.
        is_silent = bool(wait(self._sent, _LAST_PART_SECONDS_MAX).not_done)
        upload_id, self._upload_id = self._upload_id, ""
        if upload_id and not is_silent:  # else the sweep ends the upload
            with self._connection.named_errors(self._bucket, self._key):
                self._connection.client().abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=upload_id)

    def _begun(self) -> str:
        with self._connection.named_errors(self._bucket):
            # The checksum is unknown yet, and S3 can't add metadata later: for large objects only the Artifact has it.
            reply = self._connection.client().create_multipart_upload(
                Bucket=self._bucket, Key=self._key, ContentType=self._content_type, Metadata={_UPLOAD_FIELD: self._mark}
            )
            return str(reply["UploadId"])

    def _send_part(self, number: int, part: Bytes) -> dict[str, Any]:
        with self._connection.named_errors(self._bucket):
            reply = self._connection.client().upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=part
            )
            return {"PartNumber": number, "ETag": reply["ETag"]}

    def _publish(self, request: Callable[..., Reply], checksum: str, **parameters: Any) -> None:
        """Sends the request that makes the object visible, on condition that none is there."""
        parameters |= {"Bucket": self._bucket, "Key": self._key, "IfNoneMatch": "*"}
        with self._connection.named_errors(self._bucket):
            for tries_left in reversed(range(_CONFLICT_TRIES)):
                try:
                    request(**parameters)
                    return
                except Exception as error:  # what S3 answered is in its code; what has none goes on up
                    code = code_of(error)
                    # NoSuchUpload: the first reply was lost, botocore repeated the request, the upload was complete.
                    if code in ("PreconditionFailed", "412", "NoSuchUpload") and self._is_there(checksum):
                        return
                    if code in ("PreconditionFailed", "412"):
                        raise ArtifactNameTaken(self._key) from None
                    if code in ("NotImplemented", "501") and "IfNoneMatch" in parameters:
                        # The token in the key keeps attempts apart on servers without conditions, too.
                        del parameters["IfNoneMatch"]
                    elif code != "ConditionalRequestConflict" or not tries_left:
                        raise

    def _is_there(self, checksum: str) -> bool:
        """Whether the object under the key is this upload's, or has the same bytes."""
        try:
            reply = self._connection.client().head_object(Bucket=self._bucket, Key=self._key)
        except Exception as error:  # the same
            if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                return False
            raise
        metadata: dict[str, str] = reply.get("Metadata", {})
        return metadata.get(_UPLOAD_FIELD) == self._mark or metadata.get(CHECKSUM_FIELD) == checksum
