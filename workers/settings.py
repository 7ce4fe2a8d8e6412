"""The only reader of the environment: every setting, its default and what it means.

Names are `SCOREFOLD_<SECTION>__<NAME>`; an unknown name is an error, so that a typo is never silent.
"""

from __future__ import annotations

import os
from datetime import time
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from scoring.errors import FatalError

PREFIX = "SCOREFOLD_"
#: Read by the test suite and by deployments, not by this file.
_FOREIGN = ("SCOREFOLD_TEST_",)


class SettingsError(FatalError):
    """A setting has no meaning; the message names it."""

    exit_code = 78


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatabaseSettings(_Section):
    """Where the ledger is."""

    url: SecretStr | None = Field(
        None, description="Postgres URL; without it the embedded server in the home folder is used"
    )


class BrokerSettings(_Section):
    """Where the queue is."""

    url: SecretStr | None = Field(
        None, description="Redis URL; without it the embedded server in the home folder is used"
    )
    prefix: str = Field("scorefold", description="first word of every queue's name")
    num_shards: int = Field(8, ge=1, le=1024, description="queues that extractors are spread over; fixed")


class ArtifactSettings(_Section):
    """Where adapters and heads are."""

    url: str | None = Field(
        None, description="folder or fsspec URL of the artifact store; default: artifacts/ in the home folder"
    )


class BackboneSettings(_Section):
    """The one shared encoder."""

    name: str = Field("minilm", description="'minilm', a folder, or a Hugging Face id")


class EngineSettings(_Section):
    """How answers are run."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the backbone runs")
    kind: Literal["auto", "torch", "onnx"] = Field(
        "torch", description="what computes; auto: times both at the start and takes the quicker"
    )
    max_batch_tokens: int | None = Field(
        None, ge=64, description="tokens in one forward pass; default: found by timing the first batches"
    )
    max_bank_mb: float | None = Field(
        None, gt=0, description="memory for adapters; default: all that serve stay in memory"
    )
    merged_extractor: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="fold this extractor into the backbone; the worker then serves only its items",
    )
    max_recent_answers: int = Field(
        10_000, ge=0, description="answers whose scores are kept for equal ones to come; 0: none"
    )
    num_threads: int = Field(1, ge=1, description="CPU threads of one worker process")
    precision: Literal["auto", "fp32"] = Field(
        "auto", description="auto: int8 on a CPU for items that were shown to bear it, fp32 for the rest"
    )


class WorkerSettings(_Section):
    """How a worker process claims and settles."""

    num_task_threads: int = Field(3, ge=1, le=64, description="messages in hand at once")
    max_ids_per_message: int = Field(512, ge=1, le=512, description="submissions in one message")
    lease_s: float = Field(20.0, ge=1.0, description="a claim's life without renewal")
    sweep_interval_s: float = Field(2.0, gt=0, description="how often lost work is looked for")
    stale_s: float = Field(600.0, gt=0, description="a message not acted on for so long counts as lost")
    idle_stale_s: float = Field(5.0, gt=0, description="the same while all queues are empty")
    stall_s: float = Field(120.0, gt=0, description="the process ends if its engine stands still so long")
    backoff_s: float = Field(1.0, ge=0, description="wait after a first failed attempt; doubles")
    max_solo_attempts: int = Field(3, ge=1, description="failed attempts alone before quarantine")
    soft_stop_s: float = Field(30.0, gt=0, description="time to finish what is in hand at a stop")


class IntakeSettings(_Section):
    """What the doors accept."""

    max_text_chars: int = Field(50_000, ge=1, description="longest answer accepted, in characters")
    max_line_bytes: int = Field(4_000_000, ge=1000, description="longest line of a JSON lines file")
    max_event_bytes: int = Field(1_000_000, ge=1000, description="longest event of the stream or task door")
    stream: str = Field("submissions", description="name of the Redis Stream of events, after the prefix")
    read_stream: bool = Field(True, description="whether each worker also reads the stream")  # noqa: FBT003
    max_events_per_read: int = Field(500, ge=1, le=10_000, description="stream entries in one transaction")
    stream_idle_s: float = Field(
        30.0, gt=0, description="a reader that is silent for so long loses its entries"
    )


class ReadsSettings(_Section):
    """Which answers people are asked to read behind the machine, every night."""

    share: float = Field(0.05, ge=0, le=1, description="of the answers nobody has read, drawn each night")
    seed: int = Field(0, description="another seed draws another sample")


class NightSettings(_Section):
    """When the night begins: retraining, merging and the morning's page come once after it."""

    begins_at: time = Field(time(0), description="wall clock, HH:MM")
    time_zone: str = Field("UTC", description="IANA name, such as Europe/Berlin")
    database_url: SecretStr | None = Field(
        None, description="URL of the login that retrains and merges; none: that of the worker"
    )

    @field_validator("begins_at")
    @classmethod
    def _is_local(cls, begins_at: time) -> time:
        if begins_at.tzinfo is not None:
            raise ValueError("a wall clock has no offset; name the zone in SCOREFOLD_NIGHT__TIME_ZONE")
        return begins_at

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:  # not found; a path; a folder
            raise ValueError(f"{name!r} is no time zone; use an IANA name such as Europe/Berlin") from error
        return name


class ReportSettings(_Section):
    """Where the morning's page goes."""

    folder: Path | None = Field(
        None, description="folder of the morning's page; default: reports/ in the home folder"
    )


class TelemetrySettings(_Section):
    """What is told, and how."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level shown")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json lines, or words for a terminal; auto asks whether there is one"
    )
    metrics_address: str | None = Field(
        None,
        pattern=r"^[^\s/]+:\d{1,5}$",
        description="host:port where a worker tells Prometheus its figures; more workers take the next ports",
    )

    @field_validator("metrics_address")
    @classmethod
    def _has_a_port(cls, address: str | None) -> str | None:
        if address is not None and not 0 < int(address.rpartition(":")[2]) < 65536:
            raise ValueError(f"{address!r}: a port is a number from 1 to 65535")
        return address


class HomeSettings(_Section):
    """The folder for everything local."""

    path: Path = Field(Path(".scorefold"), description="embedded servers, artifacts and logs live here")


class Settings(BaseSettings):
    """All settings, read once and handed down."""

    model_config = SettingsConfigDict(
        # Compose files pass what is not set on as an empty string.
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
    )

    home: HomeSettings = HomeSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    backbone: BackboneSettings = BackboneSettings()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    intake: IntakeSettings = IntakeSettings()
    reads: ReadsSettings = ReadsSettings()
    night: NightSettings = NightSettings()
    report: ReportSettings = ReportSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    def artifact_url(self) -> str:
        """The artifact store's URL; a plain folder in the home folder by default."""
        return self.artifacts.url or str(self.home.path.resolve() / "artifacts")

    def report_folder(self) -> Path:
        """Where the morning's page goes; a folder in the home folder by default."""
        return self.report.folder or self.home.path / "reports"


def load_settings() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: an unknown name, or a value without meaning; one line each.
    """
    _refuse_unknown_names()
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'__'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        ]
        raise SettingsError("; ".join(lines)) from error


def environment_names() -> dict[str, str]:
    """Every setting's name in the environment, and what it means."""
    return {
        f"{PREFIX}{section.upper()}__{name.upper()}": field.description or ""
        for section, outer in Settings.model_fields.items()
        for name, field in _section_class(outer.annotation).model_fields.items()
    }


def _section_class(annotation: object) -> type[BaseModel]:
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        raise TypeError(f"{annotation!r} is no section of settings")
    return annotation


def _refuse_unknown_names() -> None:
    known = environment_names()
    unknown = sorted(
        name
        for name in os.environ
        # Case does not count: it does not when a value is read either.
        if name.upper().startswith(PREFIX)
        and not name.upper().startswith(_FOREIGN)
        and name.upper() not in known
    )
    if unknown:
        raise SettingsError(f"unknown setting(s) {', '.join(unknown)}; `scorefold settings` lists all")
