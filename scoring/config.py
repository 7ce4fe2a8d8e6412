"""The knobs of the model core, as frozen values; reading them from the environment is not its business."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Pooling = Literal["mean", "cls"]
#: In what arithmetic the encoder's linear layers run. "auto": int8 for scorers that were admitted to it, on a
#: machine where that is right and sooner, fp32 for the rest. "int8": for all, admitted or not, to measure.
Precision = Literal["auto", "fp32", "int8"]
#: What training moves beside the head: a LoRA adapter, every weight of a copy of the encoder, or nothing.
Method = Literal["lora", "full", "head"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraShape:
    """Low-rank adaptation (Hu et al., 2021): W x + (alpha / rank) B A x on the named linear layers."""

    rank: int = 8
    alpha: float = 16.0
    target_modules: tuple[str, ...] = (
        "query",
        "key",
        "value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
    dropout: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Fine-tuning of one item: the defaults are the recipe for adapter and head; see `recipe` for others."""

    method: Method = "lora"
    lora: LoraShape = field(default_factory=LoraShape)
    #: How many layers, from the last one down, carry the adapter; None for all. What lies below them runs
    #: once in training, not once an epoch.
    num_adapted_layers: int | None = None
    pooling: Pooling = "mean"
    max_tokens: int = 128
    max_epochs: int = 6
    #: Epochs without a better validation loss that end it, the best one being kept; None: all are run and the
    #: last one is kept, where the rate has come down to nought.
    patience: int | None = None
    #: Few answers make few steps an epoch: where `max_epochs` give fewer than this, both it and `patience`
    #: are stretched in proportion.
    min_steps: int = 300
    batch_size: int = 16
    adapter_lr: float = 5e-4
    #: Rate of the encoder's own weights, where they are trained at all.
    encoder_lr: float = 5e-5
    head_lr: float = 3e-3
    head_dropout: float = 0.1
    weight_decay: float = 0.01
    #: Weight of ||A||_F^2 + ||B||_F^2 in the loss.
    frobenius_penalty: float = 1e-5
    #: Weight of the expected level's squared distance from the human level in the loss.
    ordinal_weight: float = 1.0
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    #: Largest share of wrong levels among the answers that no human reads, and how sure to be of it.
    review_risk: float = 0.05
    review_certainty: float = 0.9
    seed: int = 20260101

    def limited(self, max_epochs: int | None) -> TrainingConfig:
        """The same recipe with this limit alone, however few steps it makes; None changes nothing."""
        return self if max_epochs is None else replace(self, max_epochs=max_epochs, min_steps=0)


def recipe(method: Method) -> TrainingConfig:
    """The defaults of a method: where it parts from the adapter's, it does so by what was measured."""
    if method == "full":
        return TrainingConfig(method="full", patience=2, head_lr=1e-3, ordinal_weight=0.0)
    if method == "head":
        # A step costs next to nothing, since the features never change.
        return TrainingConfig(
            method="head", max_epochs=60, patience=6, head_lr=1e-2, min_steps=3000, ordinal_weight=0.0
        )
    return TrainingConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingConfig:
    """Further pre-training of a backbone on answers; the defaults are Latif and Zhai's (2025)."""

    #: Share of the tokens that are hidden and guessed (Devlin et al., 2019).
    mask_share: float = 0.15
    max_epochs: int = 10
    batch_size: int = 32
    lr: float = 5e-5
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    max_tokens: int = 128
    #: Share of the answers that measure and do not teach.
    held_out_share: float = 0.05
    seed: int = 20260101


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How answers are cut into batches and run."""

    #: Upper bound of tokens, padding included, in one forward pass; None: found by timing the first batches.
    max_batch_tokens: int | None = 1024
    #: Memory for adapters; where they need more, those used last stay. None: all that are loaded stay.
    max_bank_bytes: int | None = None
    #: Fold this extractor into the encoder's weights; the engine then serves no other.
    merged_extractor: str | None = None
    #: Threads of one process; one process a core is the faster way on a CPU.
    num_threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Precision = "fp32"
    #: Largest allowed difference of a golden row's logits when a scorer is loaded.
    golden_tolerance: float = 2e-3
    #: The same in int8, where rounding shows; beyond it the scorer is served in fp32.
    golden_tolerance_int8: float = 1.0
