"""Where exports come in: a folder, or a prefix of an object store. What is whole is found and brought here.

Knows nothing of what is in a file, and keeps no memory of what has been handled.
"""

from __future__ import annotations

import stat
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

import fsspec

from scoring.errors import InvalidInputError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names under which others write what they will rename when it is whole.
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", "~")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One file that has come in; while its signature stays it is the same file."""

    name: str
    signature: tuple[object, ...]
    #: What puts arrivals in order, the oldest first.
    order: float


class Inbox(Protocol):
    """Where exports come in."""

    def arrivals(self) -> list[Arrival]:
        """Every file that is whole, the oldest first."""

    @contextmanager
    def opened(self, arrival: Arrival) -> Iterator[Path]:
        """The file on this machine, under its own name, for the length of a block."""


def open_inbox(where: str, *, settle_s: float = 30.0) -> Inbox:
    """A folder by its path, or a prefix of an object store by its URL.

    Args:
        where: a path, or any URL of fsspec: `s3://bucket/prefix`, `gs://...`, `abfs://...`, `sftp://...`.
        settle_s: in a folder, a file counts as whole when it has not changed for so long.

    Raises:
        InvalidInputError: the URL's kind is not known, or needs a package that is not installed.
        StoreUnavailableError: a server that has to be spoken to for this cannot be.
    """
    return PrefixInbox(where) if "://" in where else FolderInbox(Path(where), settle_s=settle_s)


class FolderInbox:
    """One folder; its subfolders, hidden files, links and unfinished names are left alone."""

    def __init__(self, folder: Path, *, settle_s: float) -> None:
        self._folder = folder
        self._settle_s = settle_s

    def arrivals(self) -> list[Arrival]:
        """Files that have not changed for a while.

        Raises:
            InvalidInputError: the folder cannot be read.
        """
        found, latest = [], time.time() - self._settle_s
        try:
            for path in self._folder.iterdir():
                if not _is_finished(path.name):
                    continue
                state = path.lstat()
                if stat.S_ISREG(state.st_mode) and state.st_size and state.st_mtime <= latest:
                    signature = state.st_size, state.st_mtime_ns
                    found.append(Arrival(path.name, signature, state.st_mtime))
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise InvalidInputError(f"{self._folder}: no such folder") from None
        except OSError as error:
            raise InvalidInputError(f"{self._folder}: cannot be read: {error.strerror}") from error
        return sorted(found, key=lambda one: (one.order, one.name))

    @contextmanager
    def opened(self, arrival: Arrival) -> Iterator[Path]:
        """The file where it lies."""
        yield self._folder / arrival.name


class PrefixInbox:
    """One prefix of an object store; an object is whole as soon as it is there."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            self._store, self._prefix = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise InvalidInputError(f"{self._url}: {error}") from error
        except Exception as error:  # some stores connect at once, and every store has errors of its own
            raise StoreUnavailableError(f"{self._url}: does not answer: {type(error).__name__}") from error

    def arrivals(self) -> list[Arrival]:
        """Objects right below the prefix.

        Raises:
            StoreUnavailableError: the store does not answer, or does not let us in.
        """
        try:
            self._store.invalidate_cache()
            listed = self._store.ls(self._prefix, detail=True)
        except FileNotFoundError:
            return []  # a prefix is there when something stands below it
        except Exception as error:  # every store has errors of its own
            raise StoreUnavailableError(f"{self._url}: does not answer: {type(error).__name__}") from error
        found = [
            _arrival(entry)
            for entry in listed
            if entry["type"] == "file" and entry["size"] and _is_finished(PurePosixPath(entry["name"]).name)
        ]
        return sorted(found, key=lambda one: (one.order, one.name))

    @contextmanager
    def opened(self, arrival: Arrival) -> Iterator[Path]:
        """A copy that is deleted at the end of the block.

        Raises:
            StoreUnavailableError: it cannot be fetched, or is gone.
        """
        with tempfile.TemporaryDirectory(prefix="scorefold-") as folder:
            path = Path(folder) / arrival.name
            try:
                self._store.get_file(f"{self._prefix}/{arrival.name}", str(path))
            except Exception as error:  # every store has errors of its own
                raise StoreUnavailableError(
                    f"{self._url}/{arrival.name}: cannot be fetched: {type(error).__name__}"
                ) from error
            yield path


def _is_finished(name: str) -> bool:
    return not name.startswith(".") and not name.endswith(_UNFINISHED)


def _arrival(entry: dict[str, Any]) -> Arrival:
    # Stores call the moment by different names, and some have none.
    changed = next(
        (entry[key] for key in ("LastModified", "mtime", "last_modified", "created") if key in entry), 0
    )
    moment = changed.timestamp() if isinstance(changed, datetime) else float(changed or 0)
    mark = entry.get("ETag") or entry.get("etag") or entry.get("md5Hash")
    return Arrival(PurePosixPath(entry["name"]).name, (entry["size"], moment, mark), moment)
