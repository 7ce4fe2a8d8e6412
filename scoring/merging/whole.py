"""Whole fine-tuned encoders, merged and measured offline: GW-SMM's own setting (Fang et al., 2025).

An item's answers come in and give it an encoder of its own, kept in a folder; groups of items go in, one
merged encoder a group with its heads and its evidence comes out. Nothing of this is served: an engine holds
one encoder, and what differs between items is an adapter.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch

from scoring.artifacts.tensors import check_names, pack, unpack
from scoring.errors import InvalidInputError
from scoring.merging.clouds import FeatureCloud, sample_rows
from scoring.merging.evidence import PairedLevels
from scoring.merging.fusing import FusionConfig
from scoring.merging.refit import Head, HeadData, choose_head, mixed_targets
from scoring.merging.weights import merge_states
from scoring.training.baselines import FullNetwork
from scoring.training.batches import sorted_batches
from scoring.training.evaluation import calibrated, decide_traits, fit_decisions
from scoring.training.examples import data_digest, encode_folds
from scoring.training.fitted import fit_item
from scoring.training.folds import part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.backbone import Backbone
    from scoring.config import TrainingConfig
    from scoring.training.examples import Examples, FoldExamples
    from scoring.training.fitting import Epoch
    from scoring.types import Decision, ItemSpec, LabelledAnswer

WholeWay = Literal["mean", "ties"]
_BATCH_SIZE = 64
#: Share of the items' own models in a human-scored answer's target, as in a merge of adapters.
_TEACHER_WEIGHT = FusionConfig().teacher_weight


@dataclass(frozen=True, slots=True, eq=False)
class WholeModel:
    """One item's own encoder, head and calibration.

    Attributes:
        item: what it scores
        weights: of the encoder, by name
        head: on its features
        decisions: by trait name
        data: the three folds
    """

    item: ItemSpec
    weights: Mapping[str, Tensor]
    head: Head
    decisions: Mapping[str, Decision]
    data: FoldExamples


@dataclass(frozen=True, slots=True, eq=False)
class WholeMerge:
    """What became of a group: one encoder, a head an item, and both scorers' levels on the test fold."""

    weights: Mapping[str, Tensor]
    heads: tuple[Head, ...]
    decisions: tuple[Mapping[str, Decision], ...]
    pairs: tuple[PairedLevels, ...]


class WholeEncoders:
    """Trains items' own encoders into a folder, and merges them."""

    def __init__(self, backbone: Backbone, folder: Path, config: TrainingConfig) -> None:
        if config.method != "full":
            raise InvalidInputError(f"a recipe of method {config.method!r}; whole encoders need 'full'")
        self._backbone = backbone
        self._folder = folder
        self._config = config
        self._scratch = FullNetwork(backbone, 1, config=config).eval()
        self._base = self._scratch.encoder_weights()

    @property
    def num_bytes(self) -> int:
        """What one encoder takes."""
        return sum(weight.nbytes for weight in self._base.values())

    def path(self, item: ItemSpec, answers: Sequence[LabelledAnswer]) -> Path:
        """Where an item's encoder lies or will lie, named after all that it depends on."""
        traits = [[trait.name, trait.num_levels] for trait in item.traits]
        told = [
            str(item.item_id),
            traits,
            asdict(self._config),
            self._backbone.revision,
            data_digest(answers),
        ]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return self._folder / f"{digest[:32]}.safetensors"

    def is_kept(self, item: ItemSpec, answers: Sequence[LabelledAnswer]) -> bool:
        """Whether `own` will read this item's encoder rather than train it."""
        return self.path(item, answers).exists()

    def own(
        self,
        item: ItemSpec,
        answers: Sequence[LabelledAnswer],
        *,
        progress: Callable[[Epoch], None] = lambda _epoch: None,
    ) -> WholeModel:
        """An item's own encoder, from the folder or trained now and kept there.

        Raises:
            InvalidInputError: the answers cannot train this item.
            CorruptArtifactError: what lies in the folder is damaged; delete the file that is named.
        """
        path = self.path(item, answers)
        if not path.exists():
            self._train(path, item, answers, progress)
        config = self._config
        folds = part(item.item_id, answers)
        data = encode_folds(item, folds, backbone=self._backbone, max_tokens=config.max_tokens)
        where = f"{path} (delete it, and it is trained again)"
        tensors = unpack(path.read_bytes(), where=where)
        check_names(tensors, {*self._base, "head.weight", "head.bias"}, where=where)
        head = Head(*(tensors.pop(f"head.{name}").double().numpy() for name in ("weight", "bias")))
        logits = head.logits(self.features(tensors, data.validation))
        return WholeModel(item, tensors, head, self._decisions(item, logits, data), data)

    @torch.no_grad()
    def features(self, weights: Mapping[str, Tensor], answers: Examples) -> NDArray[np.float32]:
        """Features [num_answers, hidden] by an encoder with these weights."""
        network = self._scratch
        network.put_encoder(weights)
        inputs = network.inputs(answers.token_ids)
        found = np.empty((len(answers), self._backbone.hidden_size), dtype=np.float32)
        for batch in sorted_batches(inputs.lengths(), _BATCH_SIZE):
            found[batch] = network.features(inputs, batch).cpu().numpy()
        return found

    def cloud(self, model: WholeModel, *, num_answers: int, seed: int) -> FeatureCloud:
        """A seeded sample of an item's answers outside of the test fold, by its own encoder."""
        parts = (model.data.train, model.data.validation)
        features = np.vstack([self.features(model.weights, one) for one in parts])
        name = str(model.item.item_id)
        rows = sample_rows(len(features), max_rows=num_answers, seed=seed, item_id=name)
        return FeatureCloud.of(name, features[rows], block=model.item.language)

    def merge(
        self, group: Sequence[WholeModel], *, way: WholeWay = "mean", refits_heads: bool = True
    ) -> WholeMerge:
        """Merge a group's encoders by their differences to the backbone, and measure it on the test folds.

        Args:
            group: two items or more.
            way: of the differences to the backbone, see `merge_states`.
            refits_heads: fit heads on the merged features, half to people's levels and half to what the
                items' own models say; else heads stay as they are, as in the paper. Calibration is always
                fitted again.

        Raises:
            InvalidInputError: fewer than two items.
        """
        if len(group) < 2:
            raise InvalidInputError("a merge needs at least two items")
        weights = merge_states(self._base, [model.weights for model in group], way=way)
        held_out = [self.features(weights, one.data.validation) for one in group]
        heads = [
            self._refitted(one, weights, features) if refits_heads else one.head
            for one, features in zip(group, held_out, strict=True)
        ]
        decided = [
            self._decisions(one.item, head.logits(features), one.data)
            for one, head, features in zip(group, heads, held_out, strict=True)
        ]
        pairs = [
            PairedLevels(
                str(one.item.item_id),
                one.item.traits,
                self._levels(one, one.weights, one.head, one.decisions),
                self._levels(one, weights, head, decisions),
                one.data.test.levels,
            )
            for one, head, decisions in zip(group, heads, decided, strict=True)
        ]
        return WholeMerge(weights, tuple(heads), tuple(decided), tuple(pairs))

    def write(self, merge: WholeMerge, group: Sequence[WholeModel], folder: Path) -> None:
        """Write a merged group for use elsewhere.

        `encoder` opens by transformers' AutoModel, `heads.safetensors` holds each item's weight and bias, and
        `items.json` says what belongs to whom.
        """
        encoder = folder / "encoder"
        encoder.mkdir(parents=True, exist_ok=True)
        self._scratch.put_encoder(merge.weights)
        self._scratch.save_encoder(encoder)
        self._backbone.tokenizer.save(str(encoder / "tokenizer.json"))
        tensors: dict[str, Tensor] = {}
        told = []
        for number, (one, head, decisions) in enumerate(
            zip(group, merge.heads, merge.decisions, strict=True)
        ):
            tensors |= {
                f"{number}.weight": torch.from_numpy(head.weight).float(),
                f"{number}.bias": torch.from_numpy(head.bias).float(),
            }
            traits = [
                {"name": trait.name, "num_levels": trait.num_levels, **asdict(decisions[trait.name])}
                for trait in one.item.traits
            ]
            told.append({"item_id": str(one.item.item_id), "head": number, "traits": traits})
        (folder / "heads.safetensors").write_bytes(pack(tensors, where="heads.safetensors"))
        about = {
            "backbone": self._backbone.name,
            "backbone_revision": self._backbone.revision,
            "pooling": self._config.pooling,
            "max_tokens": self._config.max_tokens,
            "items": told,
        }
        (folder / "items.json").write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")

    def _train(
        self,
        path: Path,
        item: ItemSpec,
        answers: Sequence[LabelledAnswer],
        progress: Callable[[Epoch], None],
    ) -> None:
        fitted = fit_item(item, answers, backbone=self._backbone, config=self._config, progress=progress)
        network = cast("FullNetwork", fitted.network)
        head = {f"head.{name}": tensor for name, tensor in network.head.state_dict().items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        unfinished.write_bytes(pack(network.encoder_weights() | head, where=str(path)))
        unfinished.replace(path)

    def _refitted(
        self, model: WholeModel, weights: Mapping[str, Tensor], held_out: NDArray[np.float32]
    ) -> Head:
        num_levels = model.item.num_levels

        def table(answers: Examples, features: NDArray[np.float32]) -> HeadData:
            logits = model.head.logits(self.features(model.weights, answers))
            taught = calibrated(model.item, logits, model.decisions)
            targets = mixed_targets(
                answers.levels, taught, num_levels=num_levels, teacher_weight=_TEACHER_WEIGHT
            )
            return HeadData(features, targets)

        train = table(model.data.train, self.features(weights, model.data.train))
        validation = table(model.data.validation, held_out)
        return choose_head(train, validation, num_levels=num_levels, others=(model.head,))

    def _decisions(
        self, item: ItemSpec, logits: NDArray[np.float32], data: FoldExamples
    ) -> dict[str, Decision]:
        config = self._config
        return fit_decisions(
            item,
            logits,
            data.validation.levels,
            risk=config.review_risk,
            certainty=config.review_certainty,
        )

    def _levels(
        self,
        model: WholeModel,
        weights: Mapping[str, Tensor],
        head: Head,
        decisions: Mapping[str, Decision],
    ) -> NDArray[np.int64]:
        logits = head.logits(self.features(weights, model.data.test))
        decided = decide_traits(model.item, logits, decisions)
        return np.column_stack([decided[trait.name].level for trait in model.item.traits]).astype(np.int64)
