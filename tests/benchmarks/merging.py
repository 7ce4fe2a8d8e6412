"""The suite as merging sees it, and what merging a group costs: trained once, merged once, kept in a folder.

Everything that took time lies in the folder under a name made of what it depends on, so that a run that was
killed, or a plan that shares a group with another, computes nothing twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from scoring.artifacts import ArtifactStore
from scoring.config import TrainingConfig
from scoring.merging.clouds import FeatureCloud, sample_rows
from scoring.merging.criteria import CRITERIA
from scoring.merging.distances import GwSettings
from scoring.merging.evidence import PairedLevels
from scoring.merging.extraction import joined
from scoring.merging.fusing import FusionConfig, fuse
from scoring.merging.members import Member, levels_of, prepare, reader_for
from scoring.merging.profiles import adapter_gradient, probe_texts, profile
from scoring.merging.refit import mixed_targets
from scoring.merging.search import nearest_pairs
from scoring.training.evaluation import decide_traits
from scoring.training.examples import data_digest
from scoring.training.finetuning import train_item
from scoring.types import ScorerKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.merging.members import Pupil
    from scoring.merging.refit import Head
    from scoring.training.network import Inputs
    from scoring.types import Decision, ItemSpec, LabelledAnswer

    Distances = dict[tuple[str, str], float]

#: How a group is merged, as the tables name it. "kept": heads as they were, on least-squares weights.
METHODS: Mapping[str, FusionConfig] = {
    "kept": FusionConfig(method="least_squares", refits_heads=False),
    "refitted": FusionConfig(method="least_squares"),
    "joint": FusionConfig(method="joint"),
}
#: Weights alone, heads fitted again: what the other ways are compared with.
WEIGHT_WAYS: Mapping[str, FusionConfig] = {
    way: FusionConfig(method=way) for way in ("mean", "ties", "aligned_ties")
}
_NUM_CLOUD_ANSWERS = 400
_NUM_PROBES = 200
_SEED = 20260101

#: The recipe that the tables were made with: all their merges together take hours, and are kept by it.
CONFIG = TrainingConfig(patience=2)


@dataclass(frozen=True, slots=True, eq=False)
class Studied:
    """One item of the suite: its tables, and its test answers."""

    pupil: Pupil
    test: Inputs
    human: NDArray[np.int64]


class Study:
    """All items of the suite with their own scorers, and every merge that has been asked for."""

    def __init__(
        self,
        folder: Path,
        suite: Sequence[tuple[ItemSpec, list[LabelledAnswer]]],
        backbone: Backbone,
        config: TrainingConfig | None = None,
    ) -> None:
        self._folder = folder
        self._store = ArtifactStore(folder / "store")
        self._backbone = backbone
        self._config = config or CONFIG
        self._answers = {str(item.item_id): answers for item, answers in suite}
        members = {str(item.item_id): self._member(item, answers) for item, answers in suite}
        self._reader = reader_for(list(members.values()), backbone)
        self.items = {name: self._studied(name, member) for name, member in members.items()}
        self._before: dict[str, NDArray[np.int64]] = {}
        self.blocks = {name: one.pupil.member.item.language for name, one in self.items.items()}

    def before(self, name: str) -> NDArray[np.int64]:
        """An item's own scorer's levels on its test answers [num_test, num_traits]."""
        if name not in self._before:
            one = self.items[name]
            member = one.pupil.member
            self._before[name] = self._levels(one, member.head, one.pupil.updates, member.scorer.decisions)
        return self._before[name]

    def after(self, group: Sequence[str], method: str) -> dict[str, NDArray[np.int64]]:
        """Levels by the group's merged scorers, by item; merged now unless that has been done."""
        config = {**METHODS, **WEIGHT_WAYS}[method]
        keys = {name: self.items[name].pupil.member.scorer.extractor for name in group}

        def merged() -> dict[str, Any]:
            pupils = [self.items[name].pupil for name in group]
            fusion = fuse(pupils, reader=self._reader, backbone=self._backbone, config=config)
            triples = zip(group, fusion.heads, fusion.decisions, strict=True)
            return {
                name: self._levels(self.items[name], head, fusion.updates, decisions).tolist()
                for name, head, decisions in triples
            }

        told = self._kept("merge", [keys, asdict(config)], merged)
        return {name: np.array(levels, dtype=np.int64) for name, levels in told.items()}

    def paired(self, after: Mapping[str, NDArray[np.int64]]) -> list[PairedLevels]:
        """Every item's test answers before and after; items that are in no group stay as they are."""
        return [
            PairedLevels(
                name,
                one.pupil.member.item.traits,
                self.before(name),
                after.get(name, self.before(name)),
                one.human,
            )
            for name, one in self.items.items()
        ]

    @cached_property
    def gw(self) -> Distances:
        """GW distances of all pairs within a language."""
        settings = GwSettings(num_answers=_NUM_CLOUD_ANSWERS, seed=_SEED)

        def found() -> dict[str, float]:
            told = {}
            for block in sorted(set(self.blocks.values())):
                clouds = [self.cloud(name) for name in self.items if self.blocks[name] == block]
                report = nearest_pairs(clouds, num_pairs=None, threshold=None, settings=settings)
                told |= {f"{one.first}\0{one.second}": one.distance for one in report.pairs}
            return told

        digests = [self.cloud(name).digest for name in self.items]
        told = self._kept("gw", [digests, asdict(settings)], found)
        return {
            (one, two): value for (one, _, two), value in ((k.partition("\0"), v) for k, v in told.items())
        }

    def dissimilarities(self, criterion: str) -> Distances:
        """All pairs within a language by any criterion."""
        if criterion == "gw":
            return self.gw
        names = sorted(self.items)
        return {
            (one, two): CRITERIA[criterion](self._profiles[one], self._profiles[two])
            for place, one in enumerate(names)
            for two in names[place + 1 :]
            if self.blocks[one] == self.blocks[two]
        }

    def cloud(self, name: str) -> FeatureCloud:
        """A seeded sample of an item's answers outside of the test fold, by its own extractor."""
        pupil = self.items[name].pupil
        inputs = joined([pupil.train.inputs, pupil.validation.inputs])
        rows = sample_rows(
            len(inputs.token_ids), max_rows=_NUM_CLOUD_ANSWERS, seed=_SEED, item_id=name
        ).tolist()
        chosen = type(inputs)([inputs.token_ids[row] for row in rows], [inputs.states[row] for row in rows])
        return FeatureCloud.of(name, self._reader.features(chosen, pupil.updates))

    @cached_property
    def _profiles(self) -> dict[str, Any]:
        texts = {
            name: [one.text for one in self._answers[name] if one.fold == "train"] for name in self.items
        }
        probe = self._reader.read(probe_texts(texts, num_texts=_NUM_PROBES, seed=_SEED))
        found = {}
        for name, one in self.items.items():
            pupil = one.pupil
            targets = mixed_targets(
                pupil.train.levels, None, num_levels=pupil.member.item.num_levels, teacher_weight=0.0
            )
            gradient = adapter_gradient(
                pupil.train.inputs,
                targets,
                pupil.member.item.num_levels,
                modules=list(pupil.updates),
                reader=self._reader,
            )
            found[name] = profile(
                self.cloud(name),
                pupil.updates,
                reader=self._reader,
                probe=probe,
                prompt=pupil.member.item.prompt,
                gradient=gradient,
            )
        return found

    def _member(self, item: ItemSpec, answers: Sequence[LabelledAnswer]) -> Member:
        def trained() -> str:
            print(f"training {item.item_id}", flush=True)
            report = train_item(
                item, answers, backbone=self._backbone, store=self._store, config=self._config
            )
            return str(report.scorer_key)

        told = [asdict(self._config), self._backbone.revision, data_digest(answers)]
        scorer = self._store.read_scorer(ScorerKey(self._kept("item", told, trained)))
        folds = {name: [one for one in answers if one.fold == name] for name in ("train", "validation")}
        extractor = self._store.read_extractor(scorer.extractor)
        return Member(scorer, extractor, train=folds["train"], validation=folds["validation"])

    def _studied(self, name: str, member: Member) -> Studied:
        test = [one for one in self._answers[name] if one.fold == "test"]
        return Studied(
            prepare(member, self._reader),
            self._reader.read([one.text for one in test]),
            levels_of(member.item, test),
        )

    def _levels(
        self, one: Studied, head: Head, updates: Any, decisions: Mapping[str, Decision]
    ) -> NDArray[np.int64]:
        item = one.pupil.member.item
        decided = decide_traits(item, head.logits(self._reader.features(one.test, updates)), decisions)
        return np.column_stack([decided[trait.name].level for trait in item.traits]).astype(np.int64)

    def _kept(self, kind: str, identity: object, make: Callable[[], Any]) -> Any:
        """A JSON value from the folder, or made and put there whole."""
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
        path = self._folder / kind / f"{digest}.json"
        if path.exists():
            return json.loads(path.read_text())
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(value))
        unfinished.replace(path)
        return value
