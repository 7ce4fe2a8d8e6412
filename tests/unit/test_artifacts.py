import hashlib
import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from safetensors.torch import load, save

from scoring.artifacts import ArtifactStore, ExtractorArtifact, ScorerArtifact
from scoring.config import LoraShape
from scoring.errors import CorruptArtifactError, IncompatibleArtifactError, StoreUnavailableError
from scoring.types import Decision, ExtractorKey, ItemId, ItemSpec, ScorerKey, Trait

REVISION = "ab" * 32
MODULE = "base_model.model.encoder.layer.0.attention.self.query"


def make_extractor(seed=0, rank=2, **changes):
    generator = torch.Generator().manual_seed(seed)
    values = {
        "backbone": "tiny",
        "backbone_revision": REVISION,
        "lora": LoraShape(rank=rank, alpha=4.0, target_modules=("query", "value")),
        "tensors": {
            f"{MODULE}.lora_A.weight": torch.randn(rank, 6, generator=generator),
            f"{MODULE}.lora_B.weight": torch.randn(6, rank, generator=generator),
        },
    }
    return ExtractorArtifact(**(values | changes))


def make_scorer(extractor, **changes):
    values = {
        "item": ItemSpec(
            ItemId("ice"), "Why?", "en", (Trait("holistic", 3), Trait("units", 2, ("no", "yes")))
        ),
        "extractor": extractor,
        "backbone": "tiny",
        "backbone_revision": REVISION,
        "pooling": "mean",
        "max_tokens": 32,
        "head_weight": torch.arange(30.0).reshape(5, 6),
        "head_bias": torch.arange(5.0),
        "decisions": {"holistic": Decision(1.5, (0.5, 1.5), 0.7), "units": Decision()},
        "golden_texts": ("Eis schmilzt — ja", "no"),
        "golden_logits": torch.arange(10.0).reshape(2, 5),
        "lineage": {"seed": 3, "metrics": {"qwk": 0.7}},
    }
    return ScorerArtifact(**(values | changes))


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(root):
    return ArtifactStore(root)


@pytest.fixture
def extractor(store):
    return store.write_extractor(make_extractor())


@pytest.fixture
def scorer(store, extractor):
    return store.write_scorer(make_scorer(extractor))


def forge(folder: Path, *, files=None, manifest=None):
    """Edit a folder as an attacker would: hashes and the folder's name are made to fit again."""
    content = json.loads((folder / "scorefold.json").read_text())
    for name, part in (files or {}).items():
        (folder / name).write_bytes(part)
        content["files"][name] = hashlib.sha256(part).hexdigest()
    if manifest is not None:
        manifest(content)
    text = json.dumps(content).encode()
    (folder / "scorefold.json").write_bytes(text)
    key = hashlib.sha256(text).hexdigest()
    folder.rename(folder.parent / key)
    return key


def test_extractor_round_trip(store):
    written = make_extractor(kind="merged", parents=(ExtractorKey("a" * 64), ExtractorKey("b" * 64)))
    read = store.read_extractor(store.write_extractor(written))
    assert (read.backbone, read.backbone_revision, read.kind, read.parents) == (
        "tiny",
        REVISION,
        "merged",
        ("a" * 64, "b" * 64),
    )
    assert read.lora == written.lora
    assert read.tensors.keys() == written.tensors.keys()
    assert all(torch.equal(read.tensors[name], written.tensors[name]) for name in written.tensors)


def test_extractor_without_adapter_has_no_peft_files(store, root):
    key = store.write_extractor(make_extractor(tensors={}))
    assert store.read_extractor(key).tensors == {}
    assert sorted(path.name for path in (root / "extractors" / key).iterdir()) == [
        "README.md",
        "scorefold.json",
    ]


def test_scorer_round_trip(store, extractor):
    written = make_scorer(extractor)
    read = store.read_scorer(store.write_scorer(written))
    for name in ("item", "extractor", "pooling", "max_tokens", "decisions", "golden_texts", "lineage"):
        assert getattr(read, name) == getattr(written, name)
    assert torch.equal(read.head_weight, written.head_weight)
    assert torch.equal(read.head_bias, written.head_bias)
    assert torch.equal(read.golden_logits, written.golden_logits)


def test_equal_content_has_one_key_and_is_written_once(store, root):
    key = store.write_extractor(make_extractor())
    weights = root / "extractors" / key / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns, weights.stat().st_ino
    assert store.write_extractor(make_extractor()) == key
    assert (weights.stat().st_mtime_ns, weights.stat().st_ino) == before
    swapped = LoraShape(rank=2, alpha=4.0, target_modules=("value", "query"))
    assert store.write_extractor(make_extractor(lora=swapped)) == key
    assert store.write_extractor(make_extractor(seed=1)) != key


def test_num_bytes_is_the_folders_size(store, root, extractor, scorer):
    for room, key in (("extractors", extractor), ("scorers", scorer)):
        assert store.num_bytes(key) == sum(path.stat().st_size for path in (root / room / key).iterdir())


def test_another_file_system_than_the_local_one(extractor):
    store = ArtifactStore("memory://artifacts")
    assert store.write_extractor(make_extractor()) == extractor
    assert len(store.read_extractor(extractor).tensors) == 2


def test_concurrent_writers_of_one_key(store, root):
    artifact = make_extractor(tensors=make_extractor(rank=2).tensors)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: ArtifactStore(root).write_extractor(artifact), range(32)))
    (key,) = keys
    assert len(store.read_extractor(key).tensors) == 2
    assert not list((root / "extractors" / key).glob("*.tmp"))


def test_a_killed_writer_leaves_nothing_half(root):
    script = (
        "import sys, torch\n"
        "from scoring.artifacts import ArtifactStore, ExtractorArtifact\n"
        "from scoring.config import LoraShape\n"
        "store = ArtifactStore(sys.argv[1])\n"
        "for seed in range(10**6):\n"
        "    a = torch.full((2, 60_000), float(seed))\n"
        f"    tensors = {{'{MODULE}.lora_A.weight': a, '{MODULE}.lora_B.weight': a.T.contiguous()}}\n"
        "    store.write_extractor(ExtractorArtifact(backbone='tiny', backbone_revision='ab' * 32,\n"
        "        lora=LoraShape(rank=2, alpha=4.0, target_modules=('query',)), tensors=tensors))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(root)])
    try:
        deadline = time.monotonic() + 60
        while len(list(root.glob("extractors/*/scorefold.json"))) < 3:
            assert time.monotonic() < deadline, "the writer wrote nothing"
            time.sleep(0.005)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    visible = [path.parent.name for path in root.glob("extractors/*/scorefold.json")]
    assert len(visible) >= 3
    for key in visible:
        assert len(ArtifactStore(root).read_extractor(ExtractorKey(key)).tensors) == 2


def test_a_folder_counts_only_with_its_manifest_and_is_healed_by_writing_again(store, root, extractor):
    manifest = root / "extractors" / extractor / "scorefold.json"
    manifest.unlink()
    with pytest.raises(CorruptArtifactError, match="missing"):
        store.read_extractor(extractor)
    assert store.write_extractor(make_extractor()) == extractor
    (manifest.parent / "adapter_model.safetensors").write_bytes(b"damaged")
    assert store.write_extractor(make_extractor()) == extractor
    assert len(store.read_extractor(extractor).tensors) == 2


def test_a_disk_that_fills_up_leaves_nothing_half(store, root, extractor):
    artifact = make_scorer(extractor, lineage={"notes": "long " * 10_000})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StoreUnavailableError, match="cannot write"):
            store.write_scorer(artifact)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (folder,) = (root / "scorers").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "golden.safetensors",
        "head.safetensors",
    ]
    assert store.write_scorer(artifact) == folder.name
    assert store.read_scorer(ScorerKey(folder.name)).lineage == artifact.lineage


@pytest.mark.parametrize(
    "key",
    ["", "abc", "../" + "a" * 61, "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "a/" + "b" * 62],
)
def test_refuses_what_is_no_key(store, extractor, key):
    with pytest.raises(CorruptArtifactError, match="not an artifact key"):
        store.read_extractor(ExtractorKey(key))
    with pytest.raises(CorruptArtifactError, match="not an artifact key"):
        store.read_scorer(ScorerKey(key))


@pytest.mark.parametrize("name", ["head.safetensors", "golden.safetensors", "README.md", "scorefold.json"])
def test_refuses_a_changed_byte_a_truncated_and_a_missing_file(store, root, scorer, name):
    path = root / "scorers" / scorer / name
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    for damaged in (bytes(changed), content[:-1], b""):
        path.write_bytes(damaged)
        with pytest.raises(CorruptArtifactError, match=name):
            store.read_scorer(scorer)
    path.unlink()
    with pytest.raises(CorruptArtifactError, match=f"{name}.*missing"):
        store.read_scorer(scorer)


def test_refuses_a_pickle_named_safetensors(store, root, scorer, tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "opened",)

    forged = forge(root / "scorers" / scorer, files={"head.safetensors": pickle.dumps(Bomb())})
    with pytest.raises(CorruptArtifactError, match=r"head\.safetensors: not a readable safetensors file"):
        store.read_scorer(forged)
    assert not (tmp_path / "opened").exists()


def head(**changes):
    tensors = {"weight": torch.zeros(5, 6), "bias": torch.zeros(5)} | changes
    return save({name: tensor for name, tensor in tensors.items() if tensor is not None})


@pytest.mark.parametrize(
    ("files", "error", "match"),
    [
        ({"head.safetensors": head(bias=None)}, CorruptArtifactError, "lacks tensors bias"),
        ({"head.safetensors": head(more=torch.zeros(1))}, CorruptArtifactError, "unexpected tensors more"),
        ({"head.safetensors": head(bias=torch.tensor([0, 0, 0, 0, torch.nan]))}, CorruptArtifactError, "NaN"),
        ({"head.safetensors": head(bias=torch.tensor([0, 0, 0, 0, torch.inf]))}, CorruptArtifactError, "NaN"),
        ({"head.safetensors": head(bias=torch.zeros(5).half())}, CorruptArtifactError, "float16"),
        ({"head.safetensors": head(bias=torch.zeros(4))}, IncompatibleArtifactError, "5 levels"),
        ({"head.safetensors": head(weight=torch.zeros(4, 6))}, IncompatibleArtifactError, "5 levels"),
        ({"golden.safetensors": save({"logits": torch.zeros(1, 5)})}, IncompatibleArtifactError, "golden"),
    ],
)
def test_refuses_forged_tensors(store, root, scorer, files, error, match):
    with pytest.raises(error, match=match):
        store.read_scorer(forge(root / "scorers" / scorer, files=files))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"format": "scorefold.scorer/2"}, IncompatibleArtifactError, "this version reads"),
        ({"files": {"../../secret.txt": "0" * 64}}, CorruptArtifactError, "not a plain file name"),
        ({"files": {".hidden": "0" * 64}}, CorruptArtifactError, "not a plain file name"),
        ({"files": {}}, CorruptArtifactError, "does not list"),
        ({"files": None}, CorruptArtifactError, "not a manifest"),
        ({"item": {}}, CorruptArtifactError, "traits"),
        ({"pooling": "max"}, CorruptArtifactError, "pooling"),
        ({"max_tokens": 0}, CorruptArtifactError, "max_tokens"),
        ({"decisions": {}}, IncompatibleArtifactError, "do not match its traits"),
    ],
)
def test_refuses_forged_manifests(store, root, scorer, change, error, match):
    with pytest.raises(error, match=match):
        store.read_scorer(forge(root / "scorers" / scorer, manifest=lambda content: content.update(change)))


@pytest.mark.parametrize(
    ("decision", "match"),
    [
        (Decision(0.0), "temperature"),
        (Decision(float("nan")), "temperature"),
        (Decision(1.0, (0.5,)), "cut points"),
        (Decision(1.0, (1.5, 0.5)), "cut points"),
    ],
)
def test_refuses_decisions_that_decide_nothing(extractor, decision, match):
    with pytest.raises(IncompatibleArtifactError, match=match):
        make_scorer(extractor, decisions={"holistic": decision, "units": Decision()})


def test_refuses_a_scorer_without_golden_rows(extractor):
    with pytest.raises(IncompatibleArtifactError, match="golden"):
        make_scorer(extractor, golden_texts=(), golden_logits=torch.zeros(0, 5))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("use_dora", True),
        ("use_rslora", True),
        ("bias", "all"),
        ("rank_pattern", {"query": 4}),
        ("peft_type", "IA3"),
    ],
)
def test_refuses_adapters_of_another_formula(store, root, extractor, setting, value):
    folder = root / "extractors" / extractor
    config = json.loads((folder / "adapter_config.json").read_text()) | {setting: value}
    forged = forge(folder, files={"adapter_config.json": json.dumps(config).encode()})
    with pytest.raises(IncompatibleArtifactError, match=f"{setting}.*plain LoRA"):
        store.read_extractor(forged)


def test_refuses_a_configuration_that_contradicts_the_manifest(store, root, extractor):
    folder = root / "extractors" / extractor
    config = json.loads((folder / "adapter_config.json").read_text()) | {"lora_alpha": 400.0}
    forged = forge(folder, files={"adapter_config.json": json.dumps(config).encode()})
    with pytest.raises(IncompatibleArtifactError, match="differ from"):
        store.read_extractor(forged)


@pytest.mark.parametrize(
    ("edit", "error", "match"),
    [
        (lambda t: t | {"classifier.weight": torch.zeros(1)}, CorruptArtifactError, "no LoRA weight"),
        (lambda t: {f"{MODULE}.lora_A.weight": t[f"{MODULE}.lora_A.weight"]}, CorruptArtifactError, "alone"),
        (lambda t: t | {f"{MODULE}.lora_A.weight": torch.zeros(3, 6)}, IncompatibleArtifactError, "expected"),
        (lambda t: t | {f"{MODULE}.lora_B.weight": torch.zeros(6, 3)}, IncompatibleArtifactError, "expected"),
        (
            lambda t: {name.replace("query", "key"): tensor for name, tensor in t.items()},
            IncompatibleArtifactError,
            "none of the target modules",
        ),
    ],
)
def test_refuses_forged_adapter_weights(store, root, extractor, edit, error, match):
    folder = root / "extractors" / extractor
    tensors = edit(load((folder / "adapter_model.safetensors").read_bytes()))
    forged = forge(folder, files={"adapter_model.safetensors": save(tensors)})
    with pytest.raises(error, match=match):
        store.read_extractor(forged)


def test_refuses_a_scorer_on_an_extractor_of_another_backbone(store, extractor):
    with pytest.raises(IncompatibleArtifactError, match="for backbone"):
        store.write_scorer(make_scorer(extractor, backbone_revision="cd" * 32))


@pytest.mark.usefixtures("extractor")
def test_refuses_a_scorer_whose_extractor_is_not_there(store):
    with pytest.raises(CorruptArtifactError, match="missing"):
        store.write_scorer(make_scorer(ExtractorKey("c" * 64)))


def test_a_vanished_store_is_transient(store, root, scorer):
    shutil.rmtree(root)
    with pytest.raises(StoreUnavailableError, match="root"):
        store.read_scorer(scorer)


class RefusedError(Exception):
    """No OSError: object stores have errors of their own."""


class DownStore(MemoryFileSystem):
    protocol = "downstore"
    is_down = False

    def _answer(self):
        if DownStore.is_down:
            raise RefusedError("connection refused")

    def info(self, path, **kwargs):
        self._answer()
        return super().info(path, **kwargs)

    def cat_file(self, path, start=None, end=None, **kwargs):
        self._answer()
        return super().cat_file(path, start=start, end=end, **kwargs)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        self._answer()
        return super().pipe_file(path, value, mode=mode, **kwargs)


def test_a_store_s_own_errors_are_transient(monkeypatch):
    fsspec.register_implementation("downstore", DownStore, clobber=True)
    store = ArtifactStore("downstore://bucket/artifacts")
    extractor = store.write_extractor(make_extractor())
    scorer = store.write_scorer(make_scorer(extractor))
    assert store.read_scorer(scorer).extractor == extractor
    store.check()
    monkeypatch.setattr(DownStore, "is_down", True)
    for refused in (
        lambda: store.read_scorer(scorer),
        lambda: store.num_bytes(scorer),
        lambda: store.write_extractor(make_extractor(seed=1)),
        store.check,
    ):
        with pytest.raises(StoreUnavailableError, match=r"artifact store: cannot .*: connection refused"):
            refused()


def test_a_key_that_is_none_is_no_outage(store):
    with pytest.raises(CorruptArtifactError, match="not an artifact key"):
        store.num_bytes("nothex")


def test_artifacts_are_frozen(extractor):
    with pytest.raises(AttributeError):
        make_scorer(extractor).max_tokens = 5
    assert replace(make_scorer(extractor), max_tokens=5).max_tokens == 5
