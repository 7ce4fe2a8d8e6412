"""What turns text into features beside the backbone: one item's LoRA adapter, or one merged for a group.

The files are PEFT's own, so that plain `peft` opens them; knows neither heads nor where folders lie.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from scoring.artifacts.tensors import check_finite, pack, unpack
from scoring.config import LoraShape
from scoring.errors import CorruptArtifactError, IncompatibleArtifactError
from scoring.types import ExtractorKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ExtractorKind = Literal["item", "merged"]

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
FORMAT = "scorefold.extractor/1"

_TENSOR_NAME = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])\.weight")
#: Settings that change what PEFT computes; anything but these values is another formula than B A x.
_PLAIN_LORA = {
    "peft_type": "LORA",
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_bias": False,
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ExtractorArtifact:
    """LoRA weights for a backbone (Hu et al., 2021): W x + (alpha / rank) B A x.

    Attributes:
        backbone: the backbone's name
        backbone_revision: sha256 of the backbone's content
        lora: rank, alpha and the target modules' name endings
        tensors: PEFT's names -> weights: `...lora_A.weight` [rank, in], `...lora_B.weight` [out, rank];
            empty for an extractor that is the bare backbone
        kind: "item" for one item's own, "merged" for one that serves a group
        parents: the extractors a merged one came from
    """

    backbone: str
    backbone_revision: str
    lora: LoraShape
    tensors: dict[str, Tensor]
    kind: ExtractorKind = "item"
    parents: tuple[ExtractorKey, ...] = field(default=())

    def __post_init__(self) -> None:
        check_finite(self.tensors, where=WEIGHTS_FILE)
        _check_shapes(self.tensors, self.lora)

    def modules(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Adapted linear layers by their path in the backbone -> (A [rank, in], B [out, rank])."""
        return _pairs(self.tensors)


def extractor_files(artifact: ExtractorArtifact) -> dict[str, bytes]:
    """The artifact's files as PEFT writes them; none when it is the bare backbone."""
    if not artifact.tensors:
        return {}
    return {
        CONFIG_FILE: _peft_config(artifact),
        WEIGHTS_FILE: pack(artifact.tensors, where=WEIGHTS_FILE),
    }


def extractor_manifest(artifact: ExtractorArtifact) -> dict[str, Any]:
    """The part of `scorefold.json` that is about the extractor itself."""
    return {
        "format": FORMAT,
        "backbone": {"name": artifact.backbone, "revision": artifact.backbone_revision},
        "kind": artifact.kind,
        "lora": {
            "rank": artifact.lora.rank,
            "alpha": artifact.lora.alpha,
            "dropout": artifact.lora.dropout,
            "target_modules": sorted(artifact.lora.target_modules),
        },
        "parents": list(artifact.parents),
    }


def extractor_from(
    manifest: Mapping[str, Any], files: Mapping[str, bytes], *, where: str
) -> ExtractorArtifact:
    """The artifact that a folder's manifest and files describe.

    Raises:
        CorruptArtifactError: a file or a field is missing, or the weights are no safetensors file.
        IncompatibleArtifactError: another format, another formula than plain LoRA, or shapes that
            contradict the manifest.
    """
    if manifest.get("format") != FORMAT:
        raise IncompatibleArtifactError(
            f"{where}/scorefold.json: format {manifest.get('format')!r}, this version reads {FORMAT!r}"
        )
    try:
        lora = manifest["lora"]
        shape = LoraShape(
            rank=int(lora["rank"]),
            alpha=float(lora["alpha"]),
            dropout=float(lora["dropout"]),
            target_modules=tuple(lora["target_modules"]),
        )
        backbone, revision = str(manifest["backbone"]["name"]), str(manifest["backbone"]["revision"])
        kind, parents = manifest["kind"], tuple(ExtractorKey(key) for key in manifest["parents"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArtifactError(f"{where}/scorefold.json: {type(error).__name__} {error}") from error
    if kind not in get_args(ExtractorKind):
        raise CorruptArtifactError(f"{where}/scorefold.json: kind is {kind!r}, expected item or merged")
    return ExtractorArtifact(
        backbone=backbone,
        backbone_revision=revision,
        lora=shape,
        tensors=_read_tensors(files, shape, where=where),
        kind=kind,
        parents=parents,
    )


def _read_tensors(files: Mapping[str, bytes], lora: LoraShape, *, where: str) -> dict[str, Tensor]:
    if not files:
        return {}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in files:
            raise CorruptArtifactError(f"{where}/scorefold.json: does not list {name}")
    _check_peft_config(files[CONFIG_FILE], lora, where=f"{where}/{CONFIG_FILE}")
    return unpack(files[WEIGHTS_FILE], where=f"{where}/{WEIGHTS_FILE}")


def _peft_config(artifact: ExtractorArtifact) -> bytes:
    # Written by hand rather than by PEFT, whose set order and version would make equal adapters differ.
    config = _PLAIN_LORA | {
        "base_model_name_or_path": artifact.backbone,
        "inference_mode": True,
        "lora_alpha": artifact.lora.alpha,
        "lora_dropout": artifact.lora.dropout,
        "r": artifact.lora.rank,
        "target_modules": sorted(artifact.lora.target_modules),
        "task_type": "FEATURE_EXTRACTION",
    }
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()


def _check_peft_config(content: bytes, lora: LoraShape, *, where: str) -> None:
    try:
        config = json.loads(content)
        stated = config["r"], float(config["lora_alpha"]), sorted(config["target_modules"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifactError(f"{where}: {type(error).__name__} {error}") from error
    if stated != (lora.rank, lora.alpha, sorted(lora.target_modules)):
        raise IncompatibleArtifactError(f"{where}: rank, alpha or target modules differ from scorefold.json")
    for name, value in _PLAIN_LORA.items():
        if config.get(name, value) != value:
            raise IncompatibleArtifactError(
                f"{where}: {name} is {config[name]!r}; only plain LoRA ({value!r}) is served"
            )


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _TENSOR_NAME.fullmatch(name)
        if match is None:
            raise CorruptArtifactError(f"{WEIGHTS_FILE}: {name} is no LoRA weight in PEFT's naming")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    for module, pair in sides.items():
        if set(pair) != {"A", "B"}:
            raise CorruptArtifactError(f"{WEIGHTS_FILE}: {module} has lora_{next(iter(pair))} alone")
    return {module: (pair["A"], pair["B"]) for module, pair in sides.items()}


def _check_shapes(tensors: Mapping[str, Tensor], lora: LoraShape) -> None:
    for module, (a, b) in _pairs(tensors).items():
        if a.ndim != 2 or b.ndim != 2 or a.shape[0] != lora.rank or b.shape[1] != lora.rank:
            raise IncompatibleArtifactError(
                f"{WEIGHTS_FILE}: {module} has A {list(a.shape)} and B {list(b.shape)}, "
                f"expected [{lora.rank}, in] and [out, {lora.rank}]"
            )
        if not any(module == name or module.endswith(f".{name}") for name in lora.target_modules):
            raise IncompatibleArtifactError(
                f"{WEIGHTS_FILE}: {module} is none of the target modules {', '.join(lora.target_modules)}"
            )
