"""The folder that holds everything embedded: data, logs, sockets and who runs them.

Paths pass through here and nothing else; no process is started or asked.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scoring.errors import EmbeddedServiceError

#: macOS has the smallest `sun_path`: 104 bytes with the closing NUL.
_MAX_SOCKET_PATH_BYTES = 103
#: Longest socket name that either server makes inside the sockets folder.
_SOCKET_NAME = ".s.PGSQL.5432"


@dataclass(frozen=True, slots=True)
class Home:
    """Absolute paths inside one home; making the value touches no disk."""

    root: Path

    @classmethod
    def at(cls, path: Path) -> Home:
        """Name the home at `path`, which need not exist.

        Raises:
            EmbeddedServiceError: the path holds a character that a server's configuration cannot quote.
        """
        root = path.expanduser().resolve()
        # A Redis server takes a configuration path with *, ? or [ for a pattern, and starts without one.
        if not str(root).isprintable() or any(letter in str(root) for letter in "*?["):
            raise EmbeddedServiceError(
                f"home {str(root)!r} holds a control character or one of * ? [: choose another folder"
            )
        return cls(root)

    @property
    def postgres(self) -> Path:
        """Postgres' data folder."""
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        """The Redis server's data folder."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """One log file per server, and the supervisor's own."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """What the owner last wrote about its servers, as JSON."""
        return self.root / "services.json"

    @property
    def lock(self) -> Path:
        """The file that the one owner of this home keeps locked."""
        return self.root / "owner.lock"

    @property
    def sockets(self) -> Path:
        """The folder of both sockets; `sockets` is a link when home lies too deep for a socket's path."""
        return (self.root / "sockets").resolve()

    def create(self) -> None:
        """Make the folders that are missing, private to this user.

        Raises:
            EmbeddedServiceError: a file stands in the way, or this user may not write here.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_ours()
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self._create_sockets()
        except (FileExistsError, NotADirectoryError) as error:
            where = _first_file(Path(error.filename))
            raise EmbeddedServiceError(
                f"{where} is a file where home {self.root} needs a folder: move it or choose another home"
            ) from error
        except OSError as error:
            reason = error.strerror or error
            raise EmbeddedServiceError(
                f"home {self.root} cannot be used ({reason}): choose a folder that this user may write to"
            ) from error

    def _require_ours(self) -> None:
        # Root could write into another user's home, but that user could not use it any more.
        owner = self.root.stat().st_uid
        if owner != os.geteuid():
            raise EmbeddedServiceError(
                f"home {self.root} belongs to uid {owner}: run as its owner or choose another home"
            )

    def _create_sockets(self) -> None:
        link = self.root / "sockets"
        if not link.is_symlink() and _fits(link):
            link.mkdir(mode=0o700, exist_ok=True)
            link.chmod(0o700)
            return
        folder = link.resolve() if link.is_symlink() else _short_folder(self.root)
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_private(folder)
        if not link.is_symlink():
            link.symlink_to(folder)


def _first_file(path: Path) -> Path:
    return next((step for step in (path, *path.parents) if step.exists()), path)


def _fits(folder: Path) -> bool:
    # libpq splits a host at commas, so such a path cannot be named in a URL.
    path = os.fsencode(folder / _SOCKET_NAME)
    return len(path) <= _MAX_SOCKET_PATH_BYTES and b"," not in path


def _short_folder(root: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return Path(tempfile.gettempdir()).resolve() / f"scorefold-{os.geteuid()}-{digest}"


def _require_private(folder: Path) -> None:
    """Refuse a folder in the shared temp folder that someone else laid out for us."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (os.geteuid() not in (0, found.st_uid)) or found.st_mode & 0o077:
        raise EmbeddedServiceError(f"socket folder {folder} is not a private folder of this user: remove it")
