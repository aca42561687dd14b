"""A process that holds a lease until its standard input ends; whoever starts it may stop it, or kill it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

import msgspec

from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.lease import Terms, held
from ltr_pipeline.storage.local import LocalStorage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.s3 import S3Storage
from ltr_pipeline.storage.uri import open_storage
from support.programs import python_path

NAME: Final = "landing"


class Asked(msgspec.Struct):
    """The lease that the process is to hold, and where."""

    uri: str
    s3: S3Options | None
    holder: str
    terms: Terms


@contextmanager
def holding(storage: Storage, holder: str, terms: Terms) -> Iterator[subprocess.Popen[str]]:
    """Yield a process that has the lease; it is gone afterwards."""
    s3 = storage.options if isinstance(storage, S3Storage) else None
    uri = str(storage.root) if isinstance(storage, LocalStorage) else storage.uri()
    asked = {"uri": uri, "s3": s3 and asdict(s3), "holder": holder, "terms": asdict(terms)}
    child = subprocess.Popen(
        [sys.executable, "-m", "support.leaseholder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": python_path()},
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(msgspec.json.encode(asked).decode() + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "taken\n"
        yield child
    finally:
        child.kill()
        child.wait()


def _main() -> None:
    asked = msgspec.json.decode(sys.stdin.readline(), type=Asked)
    with held(open_storage(asked.uri, asked.s3), NAME, asked.holder, asked.terms) as lease:
        os.write(1, b"taken\n")
        sys.stdin.read()
        os.write(1, f"{lease.renew()}\n".encode())


if __name__ == "__main__":
    _main()
