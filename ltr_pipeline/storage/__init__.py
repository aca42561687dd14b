"""Bytes under keys: few verbs with stated atomicity, on the local disk and on S3.

A *key* is a relative POSIX path (``"history/000001.json"``). Keys with empty, ``.`` or ``..`` segments are
refused, so that nothing outside the root is ever touched.

========== ==========================================================================
verb       promise
========== ==========================================================================
get        the whole object, or NotFoundError
fetch      get with a tag of the content; nothing when the tag is still the same
put        readers see the old object or the new one, never a part
create     as put, but exactly one of several racing writers wins; the others get
           AlreadyExistsError. A write whose answer was lost is not taken for a loss
put_file   put, from a local file, without holding it in memory
point      from then on a key reads as another key's object; readers see the former
           target or the new one, whole (on disk a symlink swapped by rename; S3, which
           has no links, copies the object, byte for byte)
local_file a readable local path of the object for the length of a ``with``
keys       the keys below a prefix, sorted
delete     gone afterwards; deleting what is not there is no error
========== ==========================================================================

StorageError is what time may heal: a server that is away, a full disk. What it cannot heal (refused credentials, no
such bucket, a certificate that is not trusted) is a SettingsError that names the variable to correct.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.storage.base import Fetched, Storage
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options

__all__ = ["Fetched", "LocalStorage", "S3Options", "Storage", "open_storage"]


def open_storage(uri: str, s3: S3Options | None = None, *, variable: str = "its address") -> Storage:
    """Storage for a folder path, a ``file://`` or an ``s3://bucket/prefix`` URI; nothing is asked of a server yet.

    Parameters
    ----------
    s3
        How to reach S3, where the URI needs it; without it, AWS with boto3's own chain of credentials.
    variable
        What gave the URI, for errors that only a server can find.

    Raises
    ------
    SettingsError
        For any other scheme; the bucket or the prefix has no valid name.
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
