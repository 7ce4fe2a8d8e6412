"""One item's way from features to levels: head, calibration, golden rows and where they came from.

Knows neither the extractor's weights (only their key) nor where folders lie.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from scoring.artifacts.tensors import check_finite, check_names, pack, unpack
from scoring.config import Pooling
from scoring.errors import CorruptArtifactError, IncompatibleArtifactError
from scoring.types import Decision, ExtractorKey, ItemId, ItemSpec, Trait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

HEAD_FILE = "head.safetensors"
GOLDEN_FILE = "golden.safetensors"
FORMAT = "scorefold.scorer/1"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScorerArtifact:
    """An immutable scorer: an item's extractor (by key), head and calibration.

    Attributes:
        item: the item, its traits and their levels
        extractor: content address of the extractor it was fitted on
        backbone: the backbone's name
        backbone_revision: sha256 of the backbone's content
        pooling: how token states become one feature
        max_tokens: answers are cut to so many tokens, special tokens included
        head_weight: [num_logits, hidden], traits one after the other
        head_bias: [num_logits]
        decisions: by trait name
        golden_texts: at least one answer to replay at every load
        golden_logits: what PEFT computed for them [num_golden, num_logits]
        lineage: seed, configuration, data hash, metrics: JSON values only
        use_prompt: whether the item's prompt is the second segment of the input
    """

    item: ItemSpec
    extractor: ExtractorKey
    backbone: str
    backbone_revision: str
    pooling: Pooling
    max_tokens: int
    head_weight: Tensor
    head_bias: Tensor
    decisions: dict[str, Decision]
    golden_texts: tuple[str, ...]
    golden_logits: Tensor
    lineage: dict[str, Any] = field(default_factory=dict)
    use_prompt: bool = False

    def __post_init__(self) -> None:
        check_finite({"weight": self.head_weight, "bias": self.head_bias}, where=HEAD_FILE)
        check_finite({"logits": self.golden_logits}, where=GOLDEN_FILE)
        _check_head(self)
        _check_decisions(self)
        if self.pooling not in get_args(Pooling) or self.max_tokens < 1:
            raise CorruptArtifactError(
                f"item {self.item.item_id}: invalid pooling {self.pooling!r} or max_tokens {self.max_tokens}"
            )


def scorer_files(artifact: ScorerArtifact) -> dict[str, bytes]:
    """Head and golden logits as safetensors."""
    head = {"weight": artifact.head_weight, "bias": artifact.head_bias}
    return {
        HEAD_FILE: pack(head, where=HEAD_FILE),
        GOLDEN_FILE: pack({"logits": artifact.golden_logits}, where=GOLDEN_FILE),
    }


def scorer_manifest(artifact: ScorerArtifact) -> dict[str, Any]:
    """The part of `scorefold.json` that is about the scorer itself."""
    return {
        "format": FORMAT,
        "backbone": {"name": artifact.backbone, "revision": artifact.backbone_revision},
        "extractor": artifact.extractor,
        "item": asdict(artifact.item),
        "pooling": artifact.pooling,
        "max_tokens": artifact.max_tokens,
        "use_prompt": artifact.use_prompt,
        "decisions": {trait: asdict(decision) for trait, decision in artifact.decisions.items()},
        "golden_texts": list(artifact.golden_texts),
        "lineage": artifact.lineage,
    }


def scorer_from(manifest: Mapping[str, Any], files: Mapping[str, bytes], *, where: str) -> ScorerArtifact:
    """The artifact that a folder's manifest and files describe.

    Raises:
        CorruptArtifactError: a file or a field is missing, or a file is no safetensors file.
        IncompatibleArtifactError: another format, or a head that does not fit the item's levels.
    """
    if manifest.get("format") != FORMAT:
        raise IncompatibleArtifactError(
            f"{where}/scorefold.json: format {manifest.get('format')!r}, this version reads {FORMAT!r}"
        )
    head = _read_tensors(files, HEAD_FILE, {"weight", "bias"}, where=where)
    golden = _read_tensors(files, GOLDEN_FILE, {"logits"}, where=where)
    try:
        return ScorerArtifact(
            item=_item_from(manifest["item"]),
            extractor=ExtractorKey(manifest["extractor"]),
            backbone=str(manifest["backbone"]["name"]),
            backbone_revision=str(manifest["backbone"]["revision"]),
            pooling=manifest["pooling"],
            max_tokens=int(manifest["max_tokens"]),
            head_weight=head["weight"],
            head_bias=head["bias"],
            decisions={name: _decision_from(value) for name, value in manifest["decisions"].items()},
            golden_texts=tuple(manifest["golden_texts"]),
            golden_logits=golden["logits"],
            lineage=manifest["lineage"],
            use_prompt=bool(manifest["use_prompt"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptArtifactError(f"{where}/scorefold.json: {type(error).__name__} {error}") from error


def _read_tensors(
    files: Mapping[str, bytes], name: str, tensors: set[str], *, where: str
) -> dict[str, Tensor]:
    if name not in files:
        raise CorruptArtifactError(f"{where}/scorefold.json: does not list {name}")
    read = unpack(files[name], where=f"{where}/{name}")
    check_names(read, tensors, where=f"{where}/{name}")
    return read


def _item_from(value: Mapping[str, Any]) -> ItemSpec:
    traits = tuple(
        Trait(str(trait["name"]), int(trait["num_levels"]), tuple(trait["labels"]))
        for trait in value["traits"]
    )
    return ItemSpec(
        item_id=ItemId(str(value["item_id"])),
        prompt=str(value["prompt"]),
        language=str(value["language"]),
        traits=traits,
        rubric=str(value["rubric"]),
    )


def _decision_from(value: Mapping[str, Any]) -> Decision:
    return Decision(
        temperature=float(value["temperature"]),
        cut_points=tuple(float(point) for point in value["cut_points"]),
        review_below=float(value["review_below"]),
    )


def _check_head(artifact: ScorerArtifact) -> None:
    item, width = artifact.item, artifact.item.num_logits
    weight, bias, golden = artifact.head_weight, artifact.head_bias, artifact.golden_logits
    if weight.ndim != 2 or weight.shape[0] != width or list(bias.shape) != [width]:
        raise IncompatibleArtifactError(
            f"{HEAD_FILE}: item {item.item_id} has {width} levels over its traits, "
            f"the head is {list(weight.shape)} with bias {list(bias.shape)}"
        )
    if not artifact.golden_texts or list(golden.shape) != [len(artifact.golden_texts), width]:
        raise IncompatibleArtifactError(
            f"{GOLDEN_FILE}: item {item.item_id} has {len(artifact.golden_texts)} golden texts and {width} "
            f"levels, the logits are {list(golden.shape)}"
        )


def _check_decisions(artifact: ScorerArtifact) -> None:
    item, decisions = artifact.item, artifact.decisions
    if set(decisions) != {trait.name for trait in item.traits}:
        raise IncompatibleArtifactError(
            f"item {item.item_id}: decisions for {', '.join(sorted(decisions))} do not match its traits"
        )
    for trait in item.traits:
        decision = decisions[trait.name]
        points = decision.cut_points
        if points and (len(points) != trait.num_levels - 1 or list(points) != sorted(points)):
            raise IncompatibleArtifactError(
                f"item {item.item_id}, trait {trait.name}: {trait.num_levels} levels need "
                f"{trait.num_levels - 1} ascending cut points, has {list(points)}"
            )
        numbers = (decision.temperature, decision.review_below, *points)
        if not (all(map(math.isfinite, numbers)) and decision.temperature > 0 <= decision.review_below):
            raise IncompatibleArtifactError(
                f"item {item.item_id}, trait {trait.name}: its temperature is {decision.temperature}, its"
                f" review threshold {decision.review_below}; the first has to be positive, all numbers finite"
            )
