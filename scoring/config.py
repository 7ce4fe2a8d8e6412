"""The knobs of the model core, as frozen values; reading them from the environment is not its business."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Pooling = Literal["mean", "cls"]


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
    """Fine-tuning of one item's adapter and head on a frozen backbone."""

    lora: LoraShape = field(default_factory=LoraShape)
    #: How many layers, from the last one down, carry the adapter; None for all. What lies below them runs
    #: once in training, not once an epoch.
    num_adapted_layers: int | None = 3
    pooling: Pooling = "mean"
    max_tokens: int = 128
    max_epochs: int = 6
    patience: int = 2
    batch_size: int = 16
    adapter_lr: float = 1e-3
    head_lr: float = 3e-3
    head_dropout: float = 0.1
    weight_decay: float = 0.01
    #: Weight of ||A||_F^2 + ||B||_F^2 in the loss.
    frobenius_penalty: float = 1e-5
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0
    #: Largest share of wrong levels among the answers that no human reads, and how sure to be of it.
    review_risk: float = 0.05
    review_certainty: float = 0.9
    seed: int = 20260101


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How answers are cut into batches and run."""

    #: Upper bound of tokens, padding included, in one forward pass.
    max_batch_tokens: int = 1024
    #: Threads of one process; one process a core is the faster way on a CPU.
    num_threads: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    #: Largest allowed difference of a golden row's logits when a scorer is loaded.
    golden_tolerance: float = 2e-3
