"""Chooses and builds the engine that the settings ask for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine, pick_device, settle_process
from scoring.errors import EngineUnavailableError
from workers.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scoring.config import Precision
    from scoring.engine import Engine
    from scoring.engines.banked import BankedEngine
    from workers.settings import Settings

log = get_logger("engines")

KINDS = ("torch", "onnx")


@dataclass(frozen=True, slots=True)
class EngineTrial:
    """One engine, asked for the features of a few sentences.

    Attributes:
        kind: "torch" or "onnx"
        name: engine, version, device and precision
        answers_per_s: by this thread's CPU time on a CPU; None where it cannot run
        reason: why it cannot run
    """

    kind: str
    name: str
    answers_per_s: float | None
    reason: str | None = None


def build_engine(settings: Settings) -> Engine:
    """Load the backbone once and make an empty engine around it.

    Raises:
        BackboneUnavailableError: the backbone's weights cannot be loaded.
        EngineUnavailableError: the engine that is asked for cannot run here.
    """
    settle_process(settings.engine.num_threads)
    kind = settings.engine.kind
    if kind != "auto":
        return _build(settings, kind)
    trials = list(try_engines(settings))
    for trial in trials:
        log.info("engine_tried", engine=trial.name, answers_per_s=trial.answers_per_s, reason=trial.reason)
    best = max(trials, key=lambda trial: trial.answers_per_s or 0.0)
    return _build(settings, best.kind)


def try_engines(settings: Settings, *, precision: Precision | None = None) -> Iterator[EngineTrial]:
    """Each engine's pace on this machine, bare of adapters, in fp32 and where it would be used in int8.

    Args:
        settings: name backbone, device and threads
        precision: instead of the settings' own; "int8" tries all that computes right here, used or not
    """
    for kind in KINDS:
        try:
            engine = _build(settings, kind, precision=precision)
            for is_int8 in (False, True) if engine.can_int8 else (False,):
                rate = engine.pace(is_int8=is_int8)
                yield EngineTrial(kind, engine.title(is_int8=is_int8), round(rate, 1))
        except EngineUnavailableError as error:
            yield EngineTrial(kind, kind, None, str(error))


def _build(settings: Settings, kind: str, *, precision: Precision | None = None) -> BankedEngine:
    store, config = ArtifactStore(settings.artifact_url()), engine_config(settings)
    if precision is not None:
        config = replace(config, precision=precision)
    device = pick_device(config.device)
    if kind == "torch":
        return TorchEngine(Backbone.load(settings.backbone.name, device=device), store, config)
    try:
        from scoring.engines.onnx import OnnxEngine
    except ModuleNotFoundError as error:
        raise EngineUnavailableError(
            f"engine onnx: the package {error.name} is not installed; install scorefold[cpu] or [gpu]"
        ) from error
    return OnnxEngine(Backbone.load(settings.backbone.name), store, config, device=device)


def engine_config(settings: Settings) -> EngineConfig:
    """The settings in the model core's own form."""
    chosen = settings.engine
    return EngineConfig(
        max_batch_tokens=chosen.max_batch_tokens,
        num_threads=chosen.num_threads,
        device=chosen.device,
        precision=chosen.precision,
        max_bank_bytes=None if chosen.max_bank_mb is None else int(chosen.max_bank_mb * 1e6),
        merged_extractor=chosen.merged_extractor,
    )
