"""The last step before exec: take on an identity, tie this life to the parent's, become the server.

Runs as `python -I -S stub.py MODE UID GID DEATH_SIGNAL PARENT_PID PROGRAM [ARG...]`, knows the standard
library only and imports nothing of ours, so that it starts in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def enter_namespace(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Become `uid` in a user namespace of our own (user_namespaces(7)); files still see who we were."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    _check(libc.unshare(_CLONE_NEWUSER), "user namespaces are forbidden")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1", encoding="ascii")


def drop_to(uid: int, gid: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with(libc: ctypes.CDLL, parent: int, death_signal: int) -> None:
    """Have the kernel send `death_signal` to this process once its parent is gone (prctl(2), Linux only)."""
    if sys.platform == "linux":
        _check(libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0), "PR_SET_PDEATHSIG failed")
    if os.getppid() != parent:
        raise OSError(0, "the parent was gone before its child started")


def main(argv: list[str]) -> None:
    """Never returns: the server takes this process over, or it exits with 126 and one line."""
    mode, program = argv[0], argv[5:]
    uid, gid, death_signal, parent = (int(word) for word in argv[1:5])
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if mode == "namespace":
            enter_namespace(libc, uid, gid)
        elif mode == "drop":
            drop_to(uid, gid)
        # Last, because a change of identity clears the death signal.
        die_with(libc, parent, death_signal)
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        sys.stderr.write(f"cannot start {program[0]} in mode {mode}: {error}\n")
        sys.exit(126)


if __name__ == "__main__":
    main(sys.argv[1:])
