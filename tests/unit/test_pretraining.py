"""Further pre-training on a tiny random encoder: what it learns, what it leaves, what a kill costs."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel

from scoring.backbone import Backbone
from scoring.config import PretrainingConfig
from scoring.errors import CorruptArtifactError, InvalidInputError
from scoring.training.guessing import Guesser
from scoring.training.pretraining import _parted, pretrain
from tests.command_line import CommandLine
from tests.unit.tiny_encoders import WORDS, write_encoder
from workers.pretraining import read_texts
from workers.settings import Settings

CONFIG = PretrainingConfig(max_epochs=4, batch_size=16, lr=5e-3, max_tokens=32, held_out_share=0.1)
#: Each word is followed by its neighbour in the vocabulary: there is something to guess by.
TEXTS = [
    " ".join(WORDS[(start + step) % len(WORDS)] for step in range(length))
    for start in range(len(WORDS))
    for length in (5, 6, 7, 8, 9)
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny encoder whose tokenizer can hide a token."""
    return written(tmp_path_factory.mktemp("encoder"))


def written(folder, family="bert"):
    """`write_encoder`, with a mask token; the folder's name."""
    write_encoder(folder, family=family)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    told = {"tokenizer_class": "PreTrainedTokenizerFast", **names, "mask_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    model = AutoModel.from_pretrained(folder)
    model.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def backbone(encoder):
    return Backbone.load(encoder)


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "distilbert", "modernbert"])
def test_hidden_tokens_alone_give_the_loss_that_the_whole_answer_gives(tmp_path, family):
    guesser = Guesser(Backbone.load(written(tmp_path / family, family)), CONFIG)
    guesser.model.eval()
    torch.manual_seed(0)
    told = guesser._collate([{"input_ids": ids} for ids in guesser.encode(TEXTS[:8])])
    shown, embedding = [], guesser.model.get_input_embeddings().weight
    guesser.model.get_output_embeddings().register_forward_hook(
        lambda _m, inputs, _o: shown.append(inputs[0])
    )

    loss = guesser._loss(dict(told))

    loss.backward()
    gradient = embedding.grad.clone()
    guesser.model.zero_grad()
    guesser.model.base_model._forward_hooks.clear()
    whole = guesser.model(**told).loss
    whole.backward()
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    assert torch.allclose(gradient, embedding.grad, atol=1e-6)
    num_hidden = int((told["labels"] >= 0).sum())
    assert 0 < num_hidden == shown[0].shape[:-1].numel() < shown[1].shape[:-1].numel()


def weights(folder):
    return AutoModel.from_pretrained(folder).state_dict()


def test_it_learns_to_guess_and_makes_a_backbone(backbone, encoder, tmp_path):
    told = []
    report = pretrain(
        TEXTS,
        backbone=backbone,
        out=tmp_path / "read",
        config=CONFIG,
        progress=lambda *done: told.append(done),
    )
    assert report.loss_after < report.loss_before - 0.5
    assert report.num_texts + report.num_held_out == len(set(TEXTS))
    assert told == [(epoch, 4) for epoch in range(5)]
    made = Backbone.load(report.name)
    assert made.revision == report.revision != backbone.revision == report.base_revision
    assert made.encode(["ice melts"], 32) == backbone.encode(["ice melts"], 32)
    assert {path.suffix for path in (tmp_path / "read").iterdir()} == {".json", ".safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["read"]
    assert Backbone.load(encoder).revision == backbone.revision


class EndedError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("epoch", [0, 1, 3, 4])
def test_an_ended_run_goes_on_to_the_same_weights(backbone, tmp_path, epoch):
    def end(done, _total):
        if done == epoch:
            raise EndedError

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    in_one_go = pretrain(TEXTS, backbone=backbone, out=whole, config=CONFIG)
    with pytest.raises(EndedError):
        pretrain(TEXTS, backbone=backbone, out=parts, config=CONFIG, progress=end)
    assert not parts.exists()
    # In another order, as a folder's files may be read.
    resumed = pretrain(TEXTS[::-1], backbone=backbone, out=parts, config=CONFIG)
    assert resumed.resumed_after == epoch
    assert resumed.losses == in_one_go.losses
    assert resumed.revision == in_one_go.revision
    expected = weights(whole)
    assert all(torch.equal(weight, expected[name]) for name, weight in weights(parts).items())


def test_an_unfinished_run_of_another_kind_is_refused(backbone, tmp_path):
    def end(done, _total):
        if done == 1:
            raise EndedError

    out = tmp_path / "read"
    with pytest.raises(EndedError):
        pretrain(TEXTS, backbone=backbone, out=out, config=CONFIG, progress=end)
    for texts, config in ((TEXTS[1:], CONFIG), (TEXTS, replace(CONFIG, seed=1))):
        with pytest.raises(InvalidInputError, match="unfinished pre-training with other answers"):
            pretrain(texts, backbone=backbone, out=out, config=config)
    (state,) = (tmp_path / "read.unfinished").glob("epoch-1/model.safetensors")
    state.write_bytes(state.read_bytes()[:-7])
    with pytest.raises(CorruptArtifactError, match="epoch-1: cannot be read"):
        pretrain(TEXTS, backbone=backbone, out=out, config=CONFIG)


def test_a_folder_that_is_there_is_never_written_into(backbone, tmp_path):
    with pytest.raises(InvalidInputError, match="is there already"):
        pretrain(TEXTS, backbone=backbone, out=tmp_path, config=CONFIG)


def test_too_few_texts_and_a_tokenizer_that_hides_nothing_are_refused(backbone, tmp_path):
    with pytest.raises(InvalidInputError, match="2 distinct answers"):
        pretrain(["a", "a ", "", " ", "b"] * 20, backbone=backbone, out=tmp_path / "x", config=CONFIG)
    bare = Backbone.load(write_encoder(tmp_path / "bare"))
    with pytest.raises(InvalidInputError, match="no mask token"):
        pretrain(TEXTS, backbone=bare, out=tmp_path / "x", config=CONFIG)


def test_equal_answers_never_teach_and_measure():
    learned, held_out = _parted([*TEXTS, *(f"  {text.replace(' ', '   ')}" for text in TEXTS)], CONFIG)
    assert not set(learned) & set(held_out)
    assert sorted([*learned, *held_out]) == sorted(set(TEXTS))
    assert len(held_out) == round(0.1 * len(set(TEXTS)))


def test_texts_come_from_files_of_several_kinds(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.csv").write_text('id,text\n1,three\n2,"four, or more"\n')
    (tmp_path / "below" / "c.jsonl").write_text('{"text": "five", "score": 1}\n')
    (tmp_path / "readme.md").write_text("not an answer")
    found = [text.strip() for text in read_texts(tmp_path, Settings())]
    assert found == ["one", "", "two", "three", "four, or more", "five"]
    with pytest.raises(InvalidInputError, match=r"b\.csv.*answer"):
        list(read_texts(tmp_path / "b.csv", Settings(), column="answer"))
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InvalidInputError, match=r"bad\.txt: is not utf-8"):
        list(read_texts(tmp_path / "bad.txt", Settings()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="holds no file"):
        list(read_texts(tmp_path / "empty", Settings()))


def test_by_command(encoder, tmp_path, monkeypatch, capsys):
    (tmp_path / "answers.txt").write_text("\n".join(TEXTS))
    run, out = CommandLine(monkeypatch, capsys), tmp_path / "read"
    arguments = ("pretrain", tmp_path / "answers.txt", "--backbone", encoder, "--out", out, "--lr", "0.005")
    told = run(*arguments, "--epochs", "1", "--json")
    assert told.code == 0, told.err
    report = json.loads(told.out)
    assert report["loss_after"] < report["loss_before"]
    assert report["revision"] == Backbone.load(str(out)).revision
    again = run(*arguments)
    assert again.code == 1
    assert again.err.startswith(f"error: {out}: is there already")
