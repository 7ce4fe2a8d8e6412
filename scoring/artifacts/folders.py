"""Folders named by the sha256 of their manifest, on any file system that fsspec opens.

Bytes come in and bytes go out; what they mean is not known here. A folder counts from the moment its
manifest stands in it, and the manifest is written last, each file under a temporary name and then renamed:
a writer that is killed leaves nothing visible, and writers of the same key write the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from scoring.errors import CorruptArtifactError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST_FILE = "scorefold.json"
_KEY = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+")


class Folders:
    """Immutable folders under one root, each reached by its content address."""

    def __init__(self, url: str | Path) -> None:
        try:
            self._fs, root = fsspec.core.url_to_fs(str(url))
        except Exception as error:
            raise _unavailable("open", "its URL", error) from error
        self._root = str(root).rstrip("/")

    def write(self, room: str, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
        """Write a folder and return its key; writing what is already there changes nothing.

        Raises:
            StoreUnavailableError: the file system refuses.
        """
        listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        text = json.dumps(
            {**manifest, "files": listed}, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
        )
        content = f"{text}\n".encode()
        key = hashlib.sha256(content).hexdigest()
        if not self._stands(room, key):
            folder = self._path(room, key)
            parts = [(self._path(room, key, name), part) for name, part in files.items()]
            parts.append((self._path(room, key, MANIFEST_FILE), content))
            try:
                self._fs.makedirs(folder, exist_ok=True)
                for path, part in parts:
                    self._put(path, part)
            except Exception as error:
                raise _unavailable("write", f"{room}/{key}", error) from error
        return key

    def read(self, room: str, key: str) -> tuple[dict[str, Any], dict[str, bytes]]:
        """A folder's manifest and listed files, each with the hash it was written with.

        Raises:
            CorruptArtifactError: not a key, no such folder, a file missing or changed.
            StoreUnavailableError: the file system does not answer.
        """
        where = f"{room}/{key}"
        content = self._get(room, key, MANIFEST_FILE)
        if hashlib.sha256(content).hexdigest() != key:
            raise CorruptArtifactError(f"{where}/{MANIFEST_FILE}: its sha256 is not the folder's name")
        try:
            manifest = json.loads(content)
            listed = dict(manifest["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptArtifactError(f"{where}/{MANIFEST_FILE}: not a manifest ({error})") from error
        files = {}
        for name, digest in listed.items():
            files[name] = self._get(room, key, name)
            if hashlib.sha256(files[name]).hexdigest() != digest:
                raise CorruptArtifactError(f"{where}/{name}: changed since it was written (sha256 differs)")
        return manifest, files

    def num_bytes(self, room: str, key: str) -> int:
        """Size of a folder's listed files and manifest, in bytes."""
        _, files = self.read(room, key)
        return sum(map(len, files.values())) + len(self._get(room, key, MANIFEST_FILE))

    def holds(self, room: str, key: str) -> bool:
        """Whether a folder with this key can be seen."""
        return self._kind(self._path(room, key, MANIFEST_FILE)) == "file"

    def check(self) -> None:
        """Ask the file system whether it is there; an empty or missing root is no fault.

        Raises:
            StoreUnavailableError: it does not answer, or does not let us in.
        """
        is_there = self._root_stands()
        is_local = isinstance(self._fs, LocalFileSystem)
        if is_local and is_there and not os.access(self._root, os.R_OK | os.X_OK):
            raise StoreUnavailableError(f"artifact store: may not read {self._root}")

    def _stands(self, room: str, key: str) -> bool:
        # A damaged copy does not count, so that writing the same artifact again heals it.
        if not self.holds(room, key):
            return False
        try:
            self.read(room, key)
        except CorruptArtifactError:
            return False
        return True

    def _path(self, room: str, key: str, name: str | None = None) -> str:
        if not _KEY.fullmatch(key):
            raise CorruptArtifactError(f"{room}: {key[:80]!r} is not an artifact key (64 hex characters)")
        if name is None:
            return f"{self._root}/{room}/{key}"
        if not _FILE_NAME.fullmatch(name):
            raise CorruptArtifactError(
                f"{room}/{key}/{MANIFEST_FILE}: {name[:80]!r} is not a plain file name"
            )
        return f"{self._root}/{room}/{key}/{name}"

    def _get(self, room: str, key: str, name: str) -> bytes:
        path = self._path(room, key, name)
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError as error:
            if not self._root_stands():
                raise StoreUnavailableError("artifact store: its root folder is not there") from error
            raise CorruptArtifactError(f"{room}/{key}/{name}: is missing from the artifact store") from error
        except Exception as error:
            raise _unavailable("read", f"{room}/{key}/{name}", error) from error

    def _root_stands(self) -> bool:
        return self._kind(self._root) is not None

    def _kind(self, path: str) -> str | None:
        """What stands there now; None is nothing. `exists` and `isfile` would take any error for that."""
        # Others write there too: what was listed a while ago says nothing.
        self._fs.invalidate_cache()
        try:
            return str(self._fs.info(path)["type"])
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unavailable("look up", path, error) from error

    def _put(self, path: str, content: bytes) -> None:
        if not isinstance(self._fs, LocalFileSystem):
            # Object stores show an object only once it is whole.
            self._fs.pipe_file(path, content)
            return
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            self._fs.pipe_file(temporary, content)
            os.replace(temporary, path)  # noqa: PTH105 (fsspec paths are strings)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise


def _unavailable(what: str, where: str, error: Exception) -> StoreUnavailableError:
    """Whatever a file system raises: object stores have errors of their own, which are no OSError."""
    return StoreUnavailableError(
        f"artifact store: cannot {what} {where}: {str(error) or type(error).__name__}"
    )
