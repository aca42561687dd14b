"""The local disk."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from uuid import uuid4

from ltr_pipeline.errors import AlreadyExistsError, NotFoundError, StorageError
from ltr_pipeline.storage.base import Fetched, check_key, check_pointer

__all__ = ["LocalStorage"]


class LocalStorage:
    """The local disk. Atomic by rename, exclusive by hard link, durable by fsync.

    Parameters
    ----------
    root
        Folder of all keys; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.root)!r})"

    def uri(self, key: str = "") -> str:
        """Return the ``file://`` address."""
        return (self._path(key) if key else self.root).as_uri()

    def get(self, key: str) -> bytes:
        """Read the file."""
        with _storage_errors(self.uri(key)):
            return self._path(key).read_bytes()

    def fetch(self, key: str, tag: str = "") -> Fetched | None:
        """Read the file unless it is still the one that gave `tag`."""
        with _storage_errors(self.uri(key)), self._path(key).open("rb") as file:
            about = os.fstat(file.fileno())
            now = f"{about.st_dev}-{about.st_ino}-{about.st_mtime_ns}-{about.st_size}"
            return None if now == tag else Fetched(file.read(), now)

    def put(self, key: str, data: bytes) -> None:
        """Rename a complete file over the former one."""
        with self._staged(key) as (staged, path):
            staged.write_bytes(data)
            _sync(staged)
            staged.replace(path)

    def create(self, key: str, data: bytes) -> None:
        """Link a complete file to its name, which fails when the name is taken."""
        with self._staged(key) as (staged, path):
            staged.write_bytes(data)
            _sync(staged)
            os.link(staged, path)

    def put_file(self, key: str, path: Path) -> None:
        """Copy, then rename over the former file."""
        with self._staged(key) as (staged, target):
            shutil.copyfile(path, staged)
            _sync(staged)
            staged.replace(target)

    def point(self, key: str, target: str) -> None:
        """Make the folder of `key` a relative symlink to the folder of `target`, with all its objects."""
        check_pointer(key, target)
        link, folder = self._path(key).parent, self._present(target).parent
        if link.is_dir() and not link.is_symlink():
            raise StorageError(f"{link} is a folder where a link belongs: move it away, then try again")
        staged = link.with_name(_STAGED + uuid4().hex)
        with _storage_errors(self.uri(key)):
            _make_folder(link.parent)
            staged.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)
            try:
                staged.replace(link)
                _sync(link.parent)
            finally:
                staged.unlink(missing_ok=True)

    @contextmanager
    def local_file(self, key: str) -> Iterator[Path]:
        """Yield the path of the object itself, for reading only."""
        yield self._present(key)

    def exists(self, key: str) -> bool:
        """Return whether the file is there."""
        return self._path(key).is_file()

    def keys(self, prefix: str = "") -> list[str]:
        """List the files below a folder, without unfinished writes."""
        folder = self._path(prefix) if prefix else self.root
        return sorted(_objects(folder, f"{prefix}/" if prefix else ""))

    def folders(self, prefix: str = "") -> list[str]:
        """List the folders in a folder; links to folders are none."""
        entries = _entries(self._path(prefix) if prefix else self.root)
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def delete(self, key: str) -> None:
        """Unlink the file if it is there."""
        with _storage_errors(self.uri(key)):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*PurePosixPath(check_key(key)).parts)

    def _present(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise NotFoundError(f"{self.uri(key)} does not exist")
        return path

    @contextmanager
    def _staged(self, key: str) -> Iterator[tuple[Path, Path]]:
        """Yield a temporary file beside the target for the caller to rename or link; it is removed in any case."""
        path = self._path(key)
        with _storage_errors(self.uri(key)):
            _make_folder(path.parent)
            descriptor, name = tempfile.mkstemp(prefix=_STAGED, dir=path.parent)
            os.close(descriptor)
            staged = Path(name)
            staged.chmod(0o644)
            try:
                yield staged, path
                _sync(path.parent)
            finally:
                staged.unlink(missing_ok=True)


_STAGED = ".staged-"


@contextmanager
def _storage_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri} does not exist") from error
    except FileExistsError as error:
        raise AlreadyExistsError(f"{uri} exists already and is never overwritten") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotFoundError(f"{uri} is a link to itself; remove it") from error
        raise StorageError(
            f"{uri}: {error.strerror or error}; check the path, its permissions and free space"
        ) from error


def _objects(folder: Path, prefix: str) -> Iterator[str]:
    """Yield the keys of files below `folder`, without unfinished writes; links to folders are not followed."""
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from _objects(Path(entry.path), f"{prefix}{entry.name}/")
        elif _is_file(entry) and not entry.name.startswith(_STAGED):
            yield prefix + entry.name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing where there is none."""
    with _storage_errors(str(folder)):
        try:
            return list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def _make_folder(folder: Path) -> None:
    """Make `folder` and its parents so that a power cut cannot lose them."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        try:
            folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file where a folder belongs") from error
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
