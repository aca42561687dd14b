"""From an address to the storage there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options

__all__ = ["open_storage"]


def open_storage(uri: str, s3: S3Options | None = None, *, variable: str = "its address") -> Storage:
    """Return the storage of a folder path, a ``file://`` or an ``s3://bucket/prefix`` URI, without connecting.

    Parameters
    ----------
    s3
        Options of S3, for an ``s3://`` URI; without them, AWS with the credentials that boto3 finds.
    variable
        Name of the variable that holds the URI, for errors that only a server can find.

    Raises
    ------
    SettingsError
        The URI has another scheme, or the bucket or the prefix has no valid name.
    """
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    if parts.scheme == "":
        return LocalStorage(Path(uri))
    if parts.scheme == "s3":
        from ltr_pipeline.storage.s3 import S3Storage  # boto3 takes a while to import

        if "@" in parts.netloc:
            raise SettingsError("an s3:// URI cannot hold credentials; give them as AWS_ACCESS_KEY_ID …")
        bucket, _, prefix = uri[len("s3://") :].partition("/")
        return S3Storage(bucket, prefix.rstrip("/"), s3 or S3Options(), variable=variable)
    raise SettingsError(
        f"{uri}: no storage for the scheme {parts.scheme!r}; use a folder, a file:// or an s3://bucket/prefix URI"
    )
