"""The digest of a file is that of its bytes, however many there are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ltr_pipeline.storage.digest import file_sha256


@pytest.mark.parametrize("size", [0, 1, 3_000_017])
def test_it_is_the_sha256_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    (tmp_path / "file").write_bytes(data)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_file_that_is_not_there_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "file")
