"""Both servers behind TLS: work flows with the right authority, and nothing is sent to anybody else."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme
from sqlalchemy import make_url

from tests.deployment import Deployment
from tests.tls_gateway import tls_gateway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DONE = "SELECT count(*) FROM ingest.work WHERE state = 'done'"


@dataclass(frozen=True)
class Gateways:
    """Ports that speak TLS with a certificate of one authority, and files of that one and of another."""

    database_port: int
    broker_port: int
    authority: Path
    stranger: Path


def unix_socket(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.connect(path)
    return made


@pytest.fixture
def gateways(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Gateways]:
    postgres, valkey = make_url(database_url), urlsplit(broker_url)
    if "host" not in postgres.query or valkey.scheme != "unix":
        pytest.skip("the gateway stands in front of the embedded servers' sockets; other servers were named")
    postgres_socket = f"{postgres.query['host']}/.s.PGSQL.{postgres.query.get('port', '5432')}"
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    for name, made in (("authority.pem", authority), ("stranger.pem", stranger)):
        made.cert_pem.write_to_path(str(tmp_path / name))
    with ExitStack() as stack:
        yield Gateways(
            stack.enter_context(tls_gateway(context, lambda: unix_socket(postgres_socket), asks_first=True)),
            stack.enter_context(tls_gateway(context, lambda: unix_socket(valkey.path), asks_first=False)),
            tmp_path / "authority.pem",
            tmp_path / "stranger.pem",
        )


def over_tls(gateways: Gateways, database_url: str, broker_url: str, *, trusted: Path) -> dict[str, str]:
    """The two settings as docs/security.md shows them."""
    database = make_url(database_url).set(host="localhost", port=gateways.database_port)
    database = database.set(query={"sslmode": "verify-full", "sslrootcert": str(trusted)})
    number = urlsplit(broker_url).query.removeprefix("db=")
    return {
        "SCOREFOLD_DATABASE__URL": database.render_as_string(hide_password=False),
        "SCOREFOLD_BROKER__URL": f"rediss://localhost:{gateways.broker_port}/{number}"
        f"?ssl_cert_reqs=required&ssl_ca_certs={trusted}",
    }


def test_answers_are_scored_over_tls(
    tmp_path: Path, database_url: str, broker_url: str, gateways: Gateways
) -> None:
    town = Deployment.create(tmp_path, database_url=database_url, broker_url=broker_url)
    town.environment |= over_tls(gateways, database_url, broker_url, trusted=gateways.authority)
    try:
        town.start_worker()
        town.run("submit", str(town.write_answers("night.jsonl", 60)))
        town.wait_until(DONE, at_least=60)
        assert town.faults() == []
        town.run("health")
    finally:
        town.close()


@pytest.mark.parametrize(
    ("name", "said"), [("SCOREFOLD_DATABASE__URL", "Postgres"), ("SCOREFOLD_BROKER__URL", "Redis")]
)
def test_a_server_of_another_authority_is_refused(
    name: str, said: str, tmp_path: Path, database_url: str, broker_url: str, gateways: Gateways
) -> None:
    town = Deployment.create(tmp_path, database_url=database_url, broker_url=broker_url)
    right, wrong = (
        over_tls(gateways, database_url, broker_url, trusted=trusted)
        for trusted in (gateways.authority, gateways.stranger)
    )
    town.environment |= right | {name: wrong[name]}
    try:
        done = town.run("health", check=False)
    finally:
        town.close()
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
