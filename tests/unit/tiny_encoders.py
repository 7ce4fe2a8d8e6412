"""Small random encoders on disk and random scorers in a store, for tests that need no language."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

from scoring.artifacts import ArtifactStore, ExtractorArtifact, ScorerArtifact
from scoring.backbone import Backbone, resolve_backbone
from scoring.config import LoraShape
from scoring.types import Decision, ItemId, ItemSpec, Trait

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.config import Pooling
    from scoring.types import ExtractorKey, ScorerKey

_VOCABULARY = (
    "the water ice melts because heat sun warms air salt dissolves in it a circuit is open battery voltage "
    "gap current flows no yes energy moves plants need light"
)
WORDS = tuple(_VOCABULARY.split())
BERT_LINEARS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
GOLDEN_TEXTS = ("the ice melts because the sun warms it", "no", "")

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}
_DISTILBERT_SIZES = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
}


def write_encoder(folder: Path, *, family: str = "bert", seed: int = 0) -> str:
    """A tiny random encoder of this family with a word tokenizer; returns the folder's name."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *(f"##{word}" for word in ("s", "ing"))]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    sizes = _DISTILBERT_SIZES if family == "distilbert" else _SIZES
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, vocab_size=len(vocabulary), pad_token_id=0, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return str(folder)


def write_adapter(
    store: ArtifactStore,
    backbone: Backbone,
    *,
    seed: int,
    rank: int = 4,
    targets: tuple[str, ...] = ("query", "value"),
    strength: float = 3.0,
) -> ExtractorKey:
    """A random adapter as PEFT makes it, written to the store."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    torch.manual_seed(seed)
    shape = LoraShape(rank=rank, alpha=2.0 * rank, target_modules=targets)
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION",
        r=rank,
        lora_alpha=shape.alpha,
        target_modules=list(targets),
        init_lora_weights=False,
    )
    encoder = AutoModel.from_pretrained(resolve_backbone(backbone.name))
    tensors = get_peft_model_state_dict(get_peft_model(encoder, config))
    return store.write_extractor(
        ExtractorArtifact(
            backbone=backbone.name,
            backbone_revision=backbone.revision,
            lora=shape,
            tensors={name: tensor.detach() * strength for name, tensor in tensors.items()},
        )
    )


def write_bare(store: ArtifactStore, backbone: Backbone) -> ExtractorKey:
    """An extractor without any adapter."""
    return store.write_extractor(
        ExtractorArtifact(
            backbone=backbone.name, backbone_revision=backbone.revision, lora=LoraShape(), tensors={}
        )
    )


def make_scorer(
    store: ArtifactStore,
    backbone: Backbone,
    extractor: ExtractorKey,
    *,
    name: str,
    levels: tuple[int, ...] = (3,),
    pooling: Pooling = "mean",
    max_tokens: int = 32,
    decision: Decision | None = None,
) -> ScorerArtifact:
    """A scorer with a random head whose golden rows PEFT computed."""
    torch.manual_seed(sum(name.encode()))
    traits = tuple(Trait(f"trait{index}", num_levels) for index, num_levels in enumerate(levels))
    # Features leave a layer normalisation, so that this gives logits of about the size of trained ones.
    weight = torch.randn(sum(levels), backbone.hidden_size) * 2 / backbone.hidden_size**0.5
    bias = torch.randn(sum(levels))
    features = peft_features(store, backbone, extractor, GOLDEN_TEXTS, pooling, max_tokens)
    return ScorerArtifact(
        item=ItemSpec(ItemId(name), "Why?", "en", traits),
        extractor=extractor,
        backbone=backbone.name,
        backbone_revision=backbone.revision,
        pooling=pooling,
        max_tokens=max_tokens,
        head_weight=weight,
        head_bias=bias,
        decisions={trait.name: decision or Decision() for trait in traits},
        golden_texts=GOLDEN_TEXTS,
        golden_logits=features @ weight.T + bias,
        lineage={"seed": 7},
    )


def write_scorer(
    store: ArtifactStore, backbone: Backbone, extractor: ExtractorKey, **settings: object
) -> ScorerKey:
    """`make_scorer`, written to the store."""
    return store.write_scorer(make_scorer(store, backbone, extractor, **settings))


def peft_features(
    store: ArtifactStore,
    backbone: Backbone,
    extractor: ExtractorKey,
    texts: tuple[str, ...],
    pooling: Pooling,
    max_tokens: int,
) -> torch.Tensor:
    """The oracle: features by plain peft and transformers from the files on disk [num_texts, hidden]."""
    from peft import PeftModel

    encoder = AutoModel.from_pretrained(resolve_backbone(backbone.name)).eval()
    if store.read_extractor(extractor).tensors:
        encoder = PeftModel.from_pretrained(encoder, f"{store_folder(store)}/extractors/{extractor}").eval()
    features = []
    with torch.inference_mode():
        for ids in backbone.encode(texts, max_tokens):
            states = encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
            features.append(states.mean(0) if pooling == "mean" else states[0])
    return torch.stack(features).clone()


def store_folder(store: ArtifactStore) -> str:
    """Where a store on the local disk lies."""
    return store._folders._root
