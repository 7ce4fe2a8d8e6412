"""The compose file and the image: settings and verbs that exist, no default password, no open port."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from workers.settings import environment_names

ROOT = Path(__file__).resolve().parents[2]
SCOREFOLD_SERVICES = ("migrate", "worker", "worker-cpu", "beat")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "workers" / "Dockerfile").read_text(encoding="utf-8")


def test_services(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "redis", *SCOREFOLD_SERVICES}
    assert compose["services"]["postgres"]["image"] == "postgres:17"
    assert compose["services"]["redis"]["image"] == "redis:7"
    named = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service["volumes"]
    }
    assert named == set(compose["volumes"])


def test_redis_evicts_nothing_and_keeps_a_log(compose: dict[str, Any]) -> None:
    script = compose["services"]["redis"]["command"][-1]
    assert "--maxmemory-policy noeviction" in script
    assert "--appendonly yes" in script
    assert "$$REDIS_PASSWORD" in script


def test_passwords_have_no_default(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    uses = re.findall(r"(?<!\$)\$\{(\w*PASSWORD\w*)(.)", text)
    assert {name for name, _ in uses} == {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}
    assert {operator for _, operator in uses} == {":"}
    assert not re.findall(r"(?<!\$)\$\{\w*PASSWORD\w*:?-", text)
    assert len(re.findall(r"(?<!\$)\$\{\w*PASSWORD\w*:\?", text)) == len(uses)
    assert compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"].startswith(
        "${POSTGRES_PASSWORD:?"
    )


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_only_settings_that_exist_are_given(compose: dict[str, Any]) -> None:
    for name in SCOREFOLD_SERVICES:
        assert set(compose["services"][name]["environment"]) <= set(environment_names())
    for text in ("docker-compose.yml", "workers/Dockerfile"):
        given = set(re.findall(r"\bSCOREFOLD_\w+", (ROOT / text).read_text(encoding="utf-8")))
        assert given
        assert given <= set(environment_names())


def test_our_services_have_no_privileges(compose: dict[str, Any]) -> None:
    for name in SCOREFOLD_SERVICES:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_workers_start_after_the_tables_stand_and_are_watched(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in ("worker", "worker-cpu", "beat"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert services[name]["depends_on"]["redis"] == {"condition": "service_healthy"}
    watched = ("postgres", "redis", "worker", "worker-cpu", "beat")
    assert all("healthcheck" in services[name] for name in watched)


def test_the_worker_reserves_a_gpu_and_the_cpu_worker_none(compose: dict[str, Any]) -> None:
    (device,) = compose["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert device["count"] >= 1
    assert "deploy" not in compose["services"]["worker-cpu"]
    assert compose["services"]["worker-cpu"]["profiles"] == ["cpu"]


def test_the_image_is_built_from_what_the_context_holds_and_does_not_run_as_root(dockerfile: str) -> None:
    ignored, *allowed = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] in "*!"
    ]
    assert ignored == "*"
    in_context = {line[1:] for line in allowed if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == in_context
    assert all((ROOT / source).exists() for source in copied)
    stages = dockerfile.split("\nFROM ")
    assert len(stages) == 3
    assert re.search(r"^USER (?!root|0\b)\w+", stages[-1], re.MULTILINE)
