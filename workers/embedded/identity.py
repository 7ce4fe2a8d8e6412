"""Whom the servers run as: Postgres refuses root, and nobody should need an account for it.

An ordinary user runs them as themselves. Root enters a user namespace in which it is an unprivileged user,
or, where namespaces are forbidden, drops to a real one. Nothing here knows what a server does.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from scoring.errors import EmbeddedServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["plain", "namespace", "drop"]

_STUB = Path(__file__).with_name("stub.py")
_SIGKILL = 9
#: Accounts that a namespace borrows a name from. `nobody` comes last: its number also stands for every user
#: that the namespace does not know, so peer authentication could not tell those apart.
_BORROWED_NAMES = ("daemon", "bin", "nonroot", "nobody")
_UNPRIVILEGED_NAMES = ("postgres", "nobody")
#: A fixed environment: nothing of the caller's, secrets included, reaches a server.
SERVER_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Identity:
    """One way to run a server, and what the two sides then look like to each other.

    Attributes:
        mode: what the stub does before exec
        uid: user that the server takes itself for
        gid: its group
        files_uid: owner of its files, as seen from here
        files_gid: their group
        peer_name: account name that the server finds for a process of ours at the other end of a socket
    """

    mode: Mode
    uid: int
    gid: int
    files_uid: int
    files_gid: int
    peer_name: str

    def command(self, program: Sequence[str], *, death_signal: int) -> list[str]:
        """The line that starts `program` under this identity as a child of the calling process."""
        stub = [sys.executable, "-I", "-S", str(_STUB)]
        numbers = (self.uid, self.gid, death_signal, os.getpid())
        return [*stub, self.mode, *map(str, numbers), *program]

    def own(self, folder: Path) -> None:
        """Hand a folder and what it holds to the server; free where it owns them already.

        Raises:
            EmbeddedServiceError: the folder belongs to somebody else.
        """
        owner = folder.lstat().st_uid
        if owner == self.files_uid:
            return
        if os.geteuid() != 0 or owner not in (0, *_unprivileged_uids()):
            raise EmbeddedServiceError(
                f"{folder} belongs to uid {owner}, not to uid {self.files_uid}: "
                "run as its owner or choose another home"
            )
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.files_uid, self.files_gid, follow_symlinks=False)


def find_identity(program: Path) -> Identity:
    """The first identity under which `program --version` runs.

    Raises:
        EmbeddedServiceError: there is none.
    """
    reasons = []
    for identity in _candidates():
        line = identity.command([str(program), "--version"], death_signal=_SIGKILL)
        tried = subprocess.run(line, capture_output=True, text=True, check=False, env=SERVER_ENVIRONMENT)  # noqa: S603
        if tried.returncode == 0:
            return identity
        reasons.append(tried.stderr.strip() or f"{program} ended with {tried.returncode}")
    raise EmbeddedServiceError(
        f"{program} cannot be run by uid {os.geteuid()} ({'; '.join(reasons)}): run as an ordinary user"
    )


def _candidates() -> list[Identity]:
    uid, gid = os.geteuid(), os.getegid()
    name = _account(uid)
    if uid != 0 and name:
        return [Identity("plain", uid, gid, uid, gid, name)]
    found = [_namespaced(uid, gid)] if sys.platform == "linux" else []
    if uid == 0:
        found += [
            Identity("drop", entry.pw_uid, entry.pw_gid, entry.pw_uid, entry.pw_gid, name or "root")
            for entry in _entries(_UNPRIVILEGED_NAMES)
        ]
    return found


def _namespaced(uid: int, gid: int) -> Identity:
    entry = next(iter(_entries(_BORROWED_NAMES)), None)
    if entry is None:
        raise EmbeddedServiceError(
            f"none of the accounts {', '.join(_BORROWED_NAMES)} exists: run as an ordinary user"
        )
    return Identity("namespace", entry.pw_uid, entry.pw_gid, uid, gid, entry.pw_name)


def _account(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _entries(names: Sequence[str]) -> list[pwd.struct_passwd]:
    entries = []
    for name in names:
        try:
            entries.append(pwd.getpwnam(name))
        except KeyError:
            continue
    return entries


def _unprivileged_uids() -> list[int]:
    return [entry.pw_uid for entry in _entries(_UNPRIVILEGED_NAMES)]
