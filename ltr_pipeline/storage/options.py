"""Options of S3, as plain values; the settings make them from the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ltr_pipeline.errors import SettingsError

__all__ = ["S3Options", "check_bucket", "check_prefix"]

LABEL: Final = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
HOST: Final = rf"({LABEL}\.)*{LABEL}|[0-9a-f.]*:[0-9a-f:.]*"
"""Host names that botocore accepts: without underscores; or an IPv6 address."""


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """The options by which S3 is reached.

    Attributes
    ----------
    endpoint
        ``http(s)://host[:port]``; None is AWS.
    region
        Region of the bucket; servers other than AWS mostly accept any.
    access_key_id, secret_access_key, session_token
        Credentials; None = boto3 looks for them: in its environment variables, its profile, the machine's role.
    ca_file
        PEM bundle to trust instead of the system's.
    path_style
        Whether the bucket stands in the path, not in the host name; None = where there is an `endpoint`.
    timeout_seconds
        Longest time to connect, and to wait for the next bytes of an answer.
    attempts
        How often a request is tried, with growing pauses between the tries.
    allow_unconditional
        Whether a server without conditional writes is used all the same. `create` then looks before and after it
        writes, which notices most races but not all: allow it only for one writer at a time.

    Raises
    ------
    SettingsError
        A value cannot work with any server; the message names the variable and never shows a secret.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    path_style: bool | None = None
    timeout_seconds: float = 20.0
    attempts: int = 5
    allow_unconditional: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise SettingsError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: set both or neither")
        keys = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_SESSION_TOKEN": self.session_token,
        }
        for name, value in keys.items():
            if value is not None and not re.fullmatch(r"[!-~]+", value):
                raise SettingsError(f"{name} is empty or holds white space or characters outside ASCII; copy it again")
        if not re.fullmatch(r"[A-Za-z0-9-]+", self.region):
            raise SettingsError(f"AWS_REGION {self.region!r} is no region; use one such as us-east-1")
        if self.ca_file is not None and not self.ca_file.is_file():
            raise SettingsError(f"LTR_S3_CA_FILE {self.ca_file} is no file; give a PEM bundle of certificates")
        if not self.timeout_seconds > 0 or self.attempts < 1:
            raise SettingsError("LTR_S3_TIMEOUT_SECONDS and the attempts must be positive")


def _check_endpoint(endpoint: str) -> None:
    wanted = "use http://host:port or https://host:port"
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(f"S3_ENDPOINT is no address ({error}); {wanted}") from None
    if parts.username is not None:
        raise SettingsError(f"S3_ENDPOINT holds credentials; give them as AWS_ACCESS_KEY_ID …, and {wanted}")
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment and port != 0
    shaped = re.fullmatch(r"[!-~]+", endpoint) and re.fullmatch(HOST, host)  # urlsplit leaves white space out
    if parts.scheme not in ("http", "https") or not shaped or not plain:
        raise SettingsError(f"S3_ENDPOINT {endpoint!r} is no address of a server; {wanted}")


def check_bucket(bucket: str) -> str:
    """Return `bucket`; SettingsError unless S3 allows the name."""
    shaped = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) and ".." not in bucket
    if not shaped or re.fullmatch(r"[0-9]+(\.[0-9]+){3}", bucket):
        raise SettingsError(
            f"{bucket!r} is no bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, with a "
            "letter or digit at both ends"
        )
    return bucket


def check_prefix(prefix: str) -> str:
    """Return `prefix`; SettingsError when it has empty, ``.`` or ``..`` segments or characters to be escaped."""
    if prefix and not all(re.fullmatch(r"[A-Za-z0-9_.=-]+", part) and part.strip(".") for part in prefix.split("/")):
        raise SettingsError(
            f"{prefix!r} is no prefix: use letters, digits, '_', '.', '=', '-' and '/' between names, without '..'"
        )
    return prefix
