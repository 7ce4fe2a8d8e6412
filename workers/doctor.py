"""What this machine is and can do: versions, cores, backbone, engines measured, servers reached.

Looks and measures; changes nothing.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from scoring.errors import BackboneUnavailableError, StoreUnavailableError
from workers.engines import EngineTrial, try_engines
from workers.health import check_health

if TYPE_CHECKING:
    from workers.settings import Settings

_PACKAGES = ("scorefold", "torch", "onnxruntime", "onnxruntime-gpu", "transformers", "peft", "celery")


@dataclass(frozen=True, slots=True)
class Checkup:
    """What was found.

    Attributes:
        versions: of Python and of the packages that matter; None: not installed
        machine: processor architecture and system
        num_cores: that this process may use
        device: where the backbone runs
        fp32_kernel: the matrix product used in fp32 on the CPU
        int8_works: whether int8 computes exactly here
        int8_pays: whether it is also sooner than fp32
        precision: that the settings ask for
        backbone: name, family, content hash, layers and width; None: not to be had
        engines: each engine's pace in every precision that is exact here, asked for or not
        faults: what keeps this machine from working, one sentence each
    """

    versions: dict[str, str | None]
    machine: str
    num_cores: int
    device: str
    fp32_kernel: str
    int8_works: bool
    int8_pays: bool
    precision: str
    backbone: dict[str, str | int] | None
    engines: list[EngineTrial]
    faults: list[str]


def examine(settings: Settings) -> Checkup:
    """Look at everything; takes some seconds, because engines are timed."""
    from scoring.engines.torch import kernels, pick_device, settle_process

    settle_process(settings.engine.num_threads)
    faults = list(check_health(settings))
    if store_fault := _store_fault(settings):
        faults.append(store_fault)
    backbone, engines = None, []
    try:
        backbone = _backbone(settings)
        engines = list(try_engines(settings, precision="int8"))
    except BackboneUnavailableError as error:
        faults.append(str(error))
    return Checkup(
        versions={"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        machine=f"{platform.machine()} {platform.system()}",
        num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        device=pick_device(settings.engine.device),
        fp32_kernel=kernels.fp32_kernel().__name__,
        int8_works=kernels.int8_works(),
        int8_pays=kernels.int8_pays(),
        precision=settings.engine.precision,
        backbone=backbone,
        engines=engines,
        faults=faults,
    )


def _store_fault(settings: Settings) -> str | None:
    from scoring.artifacts import ArtifactStore

    try:
        ArtifactStore(settings.artifact_url()).check()
    except StoreUnavailableError as error:
        return str(error)
    return None


def _backbone(settings: Settings) -> dict[str, str | int]:
    from scoring.backbone import Backbone

    found = Backbone.load(settings.backbone.name)
    return {
        "name": found.name,
        "family": found.family,
        "revision": found.revision,
        "num_layers": found.num_layers,
        "hidden_size": found.hidden_size,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
