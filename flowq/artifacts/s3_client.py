"""The connection to S3: one shared boto3 client, made when it is first used, and what its errors mean.

The only importer of boto3 (200 ms), and only inside a function. boto3 has no types: `S3Client` names the calls flowq makes.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, cast

from flowq.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    BucketMissing,
    InvalidValue,
    StorageError,
    StorageForbids,
    StorageUnreachable,
    masked,
)
from flowq.settings import S3Access

Reply = Mapping[str, Any]

_CONNECTIONS = 32
_FORBIDDEN = {
    "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "InvalidToken",
    "TokenRefreshRequired", "RequestTimeTooSkewed", "AccountProblem", "AllAccessDisabled", "NotSignedUp", "401", "403",
}  # fmt: skip
# The server's words, for people. Its messages are left out: some quote what was signed.
_MEANING = {
    "InvalidAccessKeyId": "it does not know the access key", "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired", "RequestTimeTooSkewed": "the clock of this host is wrong",
    "AccessDenied": "the credentials lack the right", "403": "the credentials lack the right, or are wrong",
    "EndpointConnectionError": "nothing listens there", "ConnectTimeoutError": "connecting took too long",
    "ReadTimeoutError": "it was silent for too long", "ConnectionClosedError": "it broke the connection off",
    "SSLError": "no TLS connection can be made", "SlowDown": "it is overloaded", "ServiceUnavailable": "it is overloaded",
}  # fmt: skip
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
_ANOTHER_REGION = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"}


class Body(Protocol):
    """The body of an answer, read as it arrives."""

    def read(self, amt: int | None = None) -> bytes: ...
    def close(self) -> None: ...


class S3Client(Protocol):
    """The calls of a boto3 S3 client that flowq makes."""

    def put_object(self, **parameters: Any) -> Reply: ...
    def get_object(self, **parameters: Any) -> Reply: ...
    def head_object(self, **parameters: Any) -> Reply: ...
    def head_bucket(self, **parameters: Any) -> Reply: ...
    def delete_object(self, **parameters: Any) -> Reply: ...
    def delete_objects(self, **parameters: Any) -> Reply: ...
    def list_objects_v2(self, **parameters: Any) -> Reply: ...
    def list_multipart_uploads(self, **parameters: Any) -> Reply: ...
    def create_multipart_upload(self, **parameters: Any) -> Reply: ...
    def upload_part(self, **parameters: Any) -> Reply: ...
    def complete_multipart_upload(self, **parameters: Any) -> Reply: ...
    def abort_multipart_upload(self, **parameters: Any) -> Reply: ...
    def generate_presigned_url(self, method: str, /, **parameters: Any) -> str: ...
    def close(self) -> None: ...


class Connection:
    """The shared client of one storage. Thread-safe; made anew in a forked child, which must not share its sockets.

    Attributes:
        shown: the storage as messages show it, endpoint included, without secrets.
    """

    def __init__(self, location: str, access: S3Access | None) -> None:
        self._access = access or S3Access()
        self._lock = threading.Lock()
        self._client: S3Client | None = None
        self._pid = 0
        self.shown = f"{location} at {masked(self._access.endpoint_url)}" if self._access.endpoint_url else location

    def client(self) -> S3Client:
        """The client; connects to nothing by itself.

        Raises:
            InvalidValue: the endpoint is no URL, or the region no region.
        """
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = self.new_client(connect_seconds=5, read_seconds=60, attempts=5)
                self._pid = os.getpid()
            return self._client

    def new_client(self, *, connect_seconds: float, read_seconds: float, attempts: int) -> S3Client:
        """A client of its own limits; the caller closes it."""
        session_module: Any = importlib.import_module("boto3.session")
        config_module: Any = importlib.import_module("botocore.config")
        access = self._access
        config = config_module.Config(
            signature_version="s3v4",
            connect_timeout=connect_seconds,
            read_timeout=read_seconds,
            max_pool_connections=_CONNECTIONS,
            tcp_keepalive=True,
            # "standard" repeats 500, 502, 503, 504, throttling and broken connections, with back-off and jitter.
            retries={"mode": "standard", "total_max_attempts": attempts},
            s3={"addressing_style": "path", "payload_signing_enabled": True},
            # Servers that are not AWS reject boto3's newer trailing checksums. The signed SHA-256 of each payload
            # protects the way there, and the artifact's own checksum the way back.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        try:
            client: Any = session_module.Session().client(
                "s3",
                endpoint_url=access.endpoint_url or None,
                aws_access_key_id=access.access_key or None,
                aws_secret_access_key=access.secret_key or None,
                region_name=access.region or ("us-east-1" if access.endpoint_url else None),
                config=config,
            )
        except ValueError:
            raise InvalidValue("S3 endpoint", masked(access.endpoint_url), "a URL such as http://127.0.0.1:8333") from None
        except Exception as error:  # boto3 reads files and profiles of the user's here: whatever it trips over is said by name
            raise _named(error, self.shown, "", "") from None
        return cast("S3Client", client)

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None

    @contextmanager
    def named_errors(self, bucket: str, key: str = "") -> Generator[None]:
        """Turns what botocore raises inside the block into errors of flowq, which hold no secret."""
        try:
            yield
        except _s3_errors() as error:
            # Without the cause: its request and headers are no text for a log.
            raise _named(error, self.shown, bucket, key) from None


def code_of(error: Exception) -> str:
    """S3's name of an error answer, such as `NoSuchKey`; "" for errors that are no answer."""
    # Errors without an answer have the attribute as well, with None.
    response = cast("Mapping[str, Any]", getattr(error, "response", None) or {})
    return str(response.get("Error", {}).get("Code", ""))


def is_broken_read(error: Exception) -> bool:
    """Whether a body broke off: the rest can be asked for again."""
    return isinstance(error, _s3_errors()) and not code_of(error)


def _s3_errors() -> tuple[type[Exception], ...]:
    """What can come out of boto3 when a server, a network or the credentials fail."""
    botocore: Any = importlib.import_module("botocore.exceptions")
    urllib3: Any = importlib.import_module("urllib3.exceptions")
    return (botocore.ClientError, botocore.BotoCoreError, urllib3.HTTPError, ConnectionError, TimeoutError)


def _named(error: Exception, shown: str, bucket: str, key: str) -> StorageError | InvalidValue:
    name = type(error).__name__
    code = code_of(error)
    if not code:
        if "Credential" in name or "Token" in name or "Profile" in name or "SSO" in name:
            return StorageForbids(shown, f"there are no usable credentials ({name})")
        if name in ("ParamValidationError", "InvalidRegionError", "UnsupportedS3ConfigurationError"):
            return InvalidValue("S3 request", f"{bucket}/{key}", "a bucket and key that S3 takes")
        return StorageUnreachable(shown, _with_meaning(name))
    if code == "NoSuchBucket":
        return BucketMissing(bucket)
    if code in _MISSING:
        return ArtifactMissing(key) if key else BucketMissing(bucket)
    if code in _FORBIDDEN:
        return StorageForbids(shown, _with_meaning(code))
    if code in _ANOTHER_REGION:
        return StorageUnreachable(shown, f"the bucket is in another region ({code})", "set the bucket's region: AWS_REGION")
    if code in ("PreconditionFailed", "412", "InvalidRange", "416"):
        return ArtifactCorrupt(key, "it was replaced while it was read")
    return StorageUnreachable(shown, _with_meaning(code))


def _with_meaning(code: str) -> str:
    return f"{_MEANING[code]} ({code})" if code in _MEANING else code
