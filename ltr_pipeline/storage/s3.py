"""S3 and servers that speak it. Writes are atomic as objects appear whole, and exclusive by conditional writes.

``create`` is one ``PUT`` with ``If-None-Match: *``. The server may do such a request while its answer is lost; the next
try then finds an object there. So each create puts a random token into the object's metadata, and knows its own object.
"""

from __future__ import annotations

import functools
import io
import os
import random
import shutil
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final
from uuid import uuid4

import boto3.session
import structlog
import urllib3.exceptions
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError

from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, SettingsError, StorageError
from ltr_pipeline.storage.base import Fetched, check_key, check_pointer
from ltr_pipeline.storage.options import S3Options, check_bucket, check_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Storage"]

WRITE: Final = "ltr-write"
PROBE: Final = ".ltr-conditional-writes"
PIECE: Final = 1 << 20
UPLOAD: Final = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=2)
TAKEN: Final = ("PreconditionFailed", "412")
BUSY: Final = ("ConditionalRequestConflict", "OperationAborted", "409")

log = structlog.get_logger(__name__)


class S3Storage:
    """A prefix in a bucket.

    Parameters
    ----------
    bucket, prefix
        Bucket, which has to exist, and folder of all keys in it.
    options
        Options by which the server is reached.
    variable
        Name of the variable to correct when the bucket is wrong.

    Raises
    ------
    SettingsError
        The bucket or the prefix has no valid name; later, from any operation: the server refuses a setting.
    """

    def __init__(self, bucket: str, prefix: str, options: S3Options, *, variable: str = "its address") -> None:
        self.bucket = check_bucket(bucket)
        self.prefix = check_prefix(prefix)
        self.options = options
        self.variable = variable

    def __repr__(self) -> str:
        return f"S3Storage({self.uri()!r})"

    def uri(self, key: str = "") -> str:
        """Return the ``s3://`` address."""
        return "/".join(part for part in (f"s3://{self.bucket}", self.prefix, key and check_key(key)) if part)

    def get(self, key: str) -> bytes:
        """Read the object by GET."""
        content = io.BytesIO()
        self._download(key, content)
        return content.getvalue()

    def fetch(self, key: str, tag: str = "") -> Fetched | None:
        """Read the object by a GET on condition that its ETag is not `tag`."""
        content = io.BytesIO()
        try:
            now = self._download(key, content, tag)
        except _UnchangedError:
            return None
        return Fetched(content.getvalue(), now)

    def put(self, key: str, data: bytes) -> None:
        """Write the object by PUT."""
        with self._errors(key):
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data)

    def create(self, key: str, data: bytes) -> None:
        """Write the object by a PUT on condition that nothing is there."""
        self._key(key)
        if not self._has_conditions():
            self._create_without_condition(key, data)
            return
        token = uuid4().hex
        for _ in self._tries():
            try:
                self._put_if_absent(key, data, token)
            except AlreadyExistsError:
                holder = self._token(key)
                if holder == token:
                    return
                if holder is not None:  # else it was deleted in between
                    raise
            except _WriteConflictError:
                continue
            except StorageError:
                if self._wrote(key, token):
                    return
                raise
            else:
                return
        raise StorageError(f"{self.uri(key)}: other writers wrote it all the time; try again")

    def put_file(self, key: str, path: Path) -> None:
        """Upload the file, a large one in several parts, which become the object all at once."""
        with self._errors(key):
            try:
                with path.open("rb") as file:
                    self._client.upload_fileobj(file, self.bucket, self._key(key), Config=UPLOAD)
            except FileNotFoundError as error:
                raise NotFoundError(f"{path} does not exist") from error

    def point(self, key: str, target: str) -> None:
        """Copy the object on the server."""
        check_pointer(key, target)
        with self._errors(target):
            self._client.copy_object(
                Bucket=self.bucket, Key=self._key(key), CopySource={"Bucket": self.bucket, "Key": self._key(target)}
            )

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """Download to a temporary file that is removed afterwards."""
        with tempfile.TemporaryDirectory(prefix="ltr-") as folder:
            path = Path(folder) / PurePosixPath(check_key(key)).name
            with path.open("wb") as file:
                self._download(key, file)
            yield path

    def exists(self, key: str) -> bool:
        """Return whether there is an object, by HEAD."""
        return self._head(key) is not None

    def keys(self, prefix: str = "") -> list[str]:
        """List, page after page; what is no key (such as a console's folder marks) is left out."""
        root, below = self._below(""), self._below(prefix)
        with self._errors(prefix or None):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=below)
            found = [entry["Key"].removeprefix(root) for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in found if key != PROBE and not key.endswith("/"))

    def folders(self, prefix: str = "") -> list[str]:
        """List the common prefixes up to the next slash, page after page: what lies below them is not listed."""
        below = self._below(prefix)
        with self._errors(prefix or None):
            listing = self._client.get_paginator("list_objects_v2")
            pages = listing.paginate(Bucket=self.bucket, Prefix=below, Delimiter="/")
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return sorted(folder.removeprefix(below).rstrip("/") for folder in found)

    def _below(self, prefix: str) -> str:
        """Return what the keys of everything in a folder begin with, in the bucket."""
        root = f"{self.prefix}/" if self.prefix else ""
        return f"{root}{check_key(prefix)}/" if prefix else root

    def delete(self, key: str) -> None:
        """Remove the object by DELETE."""
        with self._errors(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))

    @property
    def _client(self) -> S3Client:
        return _client(self.options, os.getpid())

    def _key(self, key: str) -> str:
        return f"{self.prefix}/{check_key(key)}".lstrip("/")

    def _tries(self) -> Iterator[int]:
        """Count tries, with growing random pauses between them, so that rival writers do not meet again."""
        for attempt in range(self.options.attempts):
            if attempt:
                time.sleep(random.uniform(0, min(20.0, 0.1 * 2**attempt)))  # noqa: S311 - no secret
            yield attempt

    def _download(self, key: str, file: IO[bytes], tag: str = "") -> str:
        """Write the whole object to `file` and give its ETag; _UnchangedError when that is `tag`.

        boto3 repeats requests, but not an answer that is cut in its middle.
        """
        condition: dict[str, Any] = {"IfNoneMatch": tag} if tag else {}
        cut: Exception | None = None
        for _ in self._tries():
            file.seek(0)
            file.truncate()
            with self._errors(key):
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(key), **condition)
                try:
                    shutil.copyfileobj(answer["Body"], file, PIECE)
                except (boto.HTTPClientError, boto.IncompleteReadError) as error:
                    cut = error
                else:
                    return answer["ETag"]
        raise StorageError(
            f"{self.uri(key)}: {self._server} cut its answer {self.options.attempts} times ({cut}); check the network"
        ) from cut

    def _head(self, key: str) -> dict[str, str] | None:
        """Return the metadata of the object; None when there is none."""
        try:
            with self._errors(key):
                return self._client.head_object(Bucket=self.bucket, Key=self._key(key))["Metadata"]
        except NotFoundError:
            return None

    def _token(self, key: str) -> str | None:
        """Return the token of the object's writer, empty when it has none; None when there is no object."""
        metadata = self._head(key)
        return metadata.get(WRITE, "") if metadata is not None else None

    def _wrote(self, key: str, token: str) -> bool:
        try:
            return self._token(key) == token
        except StorageError:
            return False

    def _put_if_absent(self, key: str, data: bytes, token: str) -> None:
        with self._errors(key):
            self._client.put_object(
                Bucket=self.bucket, Key=self._key(key), Body=data, IfNoneMatch="*", Metadata={WRITE: token}
            )

    def _create_without_condition(self, key: str, data: bytes) -> None:
        taken = AlreadyExistsError(f"{self.uri(key)} exists already and is never overwritten")
        if self.exists(key):
            raise taken
        token = uuid4().hex
        with self._errors(key):
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=data, Metadata={WRITE: token})
        if self._token(key) != token:
            raise taken

    def _has_conditions(self) -> bool:
        """Return whether the server honours conditions; SettingsError when it does not, unless that is allowed."""
        place = (self.options, self.bucket, self.prefix)
        if place not in _CONDITIONS:
            _CONDITIONS[place] = self._honours_conditions()
            if not _CONDITIONS[place]:
                log.warning(
                    "server_without_conditional_writes", storage=self.uri(), used=self.options.allow_unconditional
                )
        if not _CONDITIONS[place] and not self.options.allow_unconditional:
            raise SettingsError(
                f"{self._server} ignores `If-None-Match: *`, so two writers could overwrite each other in "
                f"{self.uri()}; use a server with conditional writes (AWS, MinIO), or set "
                "LTR_S3_UNCONDITIONAL=allow and have one writer at a time (docs/registry.md)"
            )
        return _CONDITIONS[place]

    def _honours_conditions(self) -> bool:
        """Create an object twice: a server with conditions refuses one of the two."""
        for _ in range(2):
            try:
                self._put_if_absent(PROBE, b"", "probe")
            except (AlreadyExistsError, _WriteConflictError):
                return True
            except _UnsupportedError:
                return False
        return False

    @property
    def _server(self) -> str:
        return self.options.endpoint or "AWS S3"

    @contextmanager
    def _errors(self, key: str | None) -> Iterator[None]:
        """Turn an error into one that says where and which variable to look at; texts of boto3 hold no secrets."""
        uri = self.uri() if key is None else self.uri(check_key(key))
        try:
            yield
        except boto.ClientError as error:
            raise self._refusal(uri, error) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            raise SettingsError(f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        except boto.SSLError as error:
            if remedy := _ssl_remedy(str(error)):
                raise SettingsError(f"{uri}: no TLS connection to {self._server}; {remedy}") from error
            raise StorageError(f"{uri}: {error}; check the network") from error
        except (boto.HTTPClientError, boto.ConnectionError, urllib3.exceptions.HTTPError) as error:
            raise StorageError(
                f"{uri}: {self._server} does not answer ({error}); check that it runs, S3_ENDPOINT (http or https?), "
                "the network and LTR_S3_TIMEOUT_SECONDS"
            ) from error
        except ResponseParserError as error:
            raise SettingsError(f"{uri}: {self._server} does not answer like S3; check S3_ENDPOINT") from error
        except boto.BotoCoreError as error:
            raise StorageError(f"{uri}: {error}") from error
        except OSError as error:
            raise StorageError(f"{uri}: {error.strerror or error}; check the disk and its free space") from error

    def _refusal(self, uri: str, error: boto.ClientError) -> Exception:
        code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in ("NoSuchKey", "404"):
            return NotFoundError(f"{uri} does not exist")
        if status == 304:
            return _UnchangedError(f"{uri} has not changed")
        if code in TAKEN:
            return AlreadyExistsError(f"{uri} exists already and is never overwritten")
        if code in BUSY:
            return _WriteConflictError(f"{uri}: another writer is writing it; try again")
        if code == "NotImplemented" or status == 501:
            return _UnsupportedError(f"{uri}: {self._server} cannot do this: {said}")
        about = f"{uri}: {self._server} answers {code}" + (f", {said}" if said not in ("", code) else "")
        if remedy := REMEDIES.get(code):
            return SettingsError(f"{about.rstrip('.')}; {remedy.format(bucket=self.bucket, variable=self.variable)}")
        return StorageError(f"{about.rstrip('.')}; try again later, else look at the server's log")


class _WriteConflictError(StorageError):
    """Another conditional write of the same key is under way."""


class _UnchangedError(StorageError):
    """The object has the tag that was asked not to be sent."""


class _UnsupportedError(StorageError):
    """The server does not know the request, or a header of it."""


REMEDIES: Final = {
    "NoSuchBucket": "make the bucket {bucket} or correct {variable}",
    "InvalidBucketName": "correct {variable}",
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY",
    **dict.fromkeys(
        ("InvalidToken", "InvalidTokenId", "ExpiredToken"),
        "renew the session's credentials, AWS_SESSION_TOKEN among them",
    ),
    "RequestTimeTooSkewed": "set this machine's clock",
    "400": "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and http or https in S3_ENDPOINT",
    **dict.fromkeys(
        ("AccessDenied", "AllAccessDisabled", "AccountProblem", "Forbidden", "403"),
        "give the user of AWS_ACCESS_KEY_ID the permissions of docs/registry.md on the bucket {bucket}, or correct "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or {variable}",
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        "correct AWS_REGION to the region of the bucket {bucket}, or S3_ENDPOINT",
    ),
    **dict.fromkeys(
        ("MethodNotAllowed", "405"), "check S3_ENDPOINT and LTR_S3_PATH_STYLE: this is no bucket's address"
    ),
}
"""Remedies for errors that stay until somebody mends them, by the server's code."""

_CONDITIONS: dict[tuple[S3Options, str, str], bool] = {}


def _ssl_remedy(said: str) -> str:
    """Say what to do about a TLS error that will not pass by itself; empty for a connection that was cut."""
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate" in said.lower() or "doesn't match" in said:
        return f"its certificate is not trusted ({said}): set LTR_S3_CA_FILE, or correct the host in S3_ENDPOINT"
    if "WRONG_VERSION_NUMBER" in said or "record layer failure" in said:
        return "use http:// in S3_ENDPOINT, or another port"
    return ""


@functools.lru_cache(maxsize=8)
def _client(options: S3Options, process: int) -> S3Client:  # noqa: ARG001 - forks must not share connections
    if options.ca_file:
        try:
            ssl.create_default_context(cafile=str(options.ca_file))
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(
                f"LTR_S3_CA_FILE {options.ca_file} is no PEM bundle of certificates ({error})"
            ) from error
    path_style = options.endpoint is not None if options.path_style is None else options.path_style
    session = boto3.session.Session(
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        aws_session_token=options.session_token,
        region_name=options.region,
    )
    return session.client(
        "s3",
        endpoint_url=options.endpoint,
        verify=str(options.ca_file) if options.ca_file else None,
        config=Config(
            connect_timeout=options.timeout_seconds,
            read_timeout=options.timeout_seconds,
            retries={"mode": "standard", "total_max_attempts": options.attempts},
            s3={"addressing_style": "path" if path_style else "virtual"},
            signature_version="s3v4",
            # not every server knows the newer checksums; requests over http are signed with their content's hash
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]
            tcp_keepalive=True,
        ),
    )
