"""Masked language modelling: an encoder that guesses hidden tokens, batch by batch.

Knows token ids and masks; knows neither files nor what is resumed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from scoring.backbone import resolve_backbone
from scoring.errors import BackboneUnavailableError, InvalidInputError
from scoring.training.batches import shuffled_batches, sorted_batches
from scoring.training.rates import ramp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from scoring.backbone import Backbone
    from scoring.config import PretrainingConfig

_NO_EPOCH = 0


class Guesser:
    """An encoder with a head that guesses hidden tokens, and the optimizer that moves both."""

    def __init__(self, backbone: Backbone, config: PretrainingConfig) -> None:
        """Load an encoder; one whose checkpoint has no such head gets one tied to its embeddings.

        Raises:
            BackboneUnavailableError: it cannot be found or read.
            InvalidInputError: its tokenizer has no token that hides another.
        """
        self.config = config
        self._base = backbone.name
        self.tokenizer, self.model = _loaded(backbone, config)
        self.device = backbone.device
        self.model.to(self.device)
        self._max_tokens = min(config.max_tokens, backbone.max_positions)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, fused=True)
        self._collate = _collator(self.tokenizer, config)
        self._hidden = torch.empty(0)
        self.model.base_model.register_forward_hook(self._only_hidden)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text with its special tokens, cut to `max_tokens`."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self._max_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def learn(self, token_ids: Sequence[list[int]], epoch: int) -> float:
        """One pass over answers; mean loss of a hidden token before each step, in nats.

        What is hidden, the order and the dropout follow from seed and epoch alone, so that an epoch that is
        run again after a kill is the same epoch.
        """
        batches = self._batches(token_ids, epoch)
        losses = []
        self.model.train()
        with self._seeded(epoch):
            for number, batch in enumerate(batches):
                self._set_rate(len(batches) * (epoch - 1) + number, len(batches) * self.config.max_epochs)
                losses.append(self._step([token_ids[index] for index in batch]))
        return float(np.nanmean(losses))

    @torch.no_grad()
    def held_out_loss(self, token_ids: Sequence[list[int]]) -> float:
        """Mean loss of a hidden token on answers that do not teach; always the same tokens are hidden."""
        self.model.eval()
        total, num_hidden = 0.0, 0
        with self._seeded(_NO_EPOCH):
            for batch in sorted_batches(_lengths(token_ids), self.config.batch_size):
                told = self._collate([{"input_ids": token_ids[index]} for index in batch]).to(self.device)
                hidden = int((told["labels"] >= 0).sum())
                if hidden:
                    total += float(self._loss(told)) * hidden
                    num_hidden += hidden
        return total / num_hidden if num_hidden else float("nan")

    def save(self, folder: Path) -> None:
        """Write encoder and tokenizer as every user of transformers reads them; safetensors, no pickle."""
        from transformers import AutoModel

        # Into the encoder as it was loaded, so that parts that no guess needs (a pooler) are there as well.
        with _quiet_transformers():
            encoder = AutoModel.from_pretrained(resolve_backbone(self._base), dtype=torch.float32)
        encoder.load_state_dict(self.model.base_model.state_dict(), strict=False)
        encoder.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _batches(self, token_ids: Sequence[list[int]], epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self.config.seed, epoch])
        return shuffled_batches(_lengths(token_ids), self.config.batch_size, rng=rng)

    def _step(self, rows: list[list[int]]) -> float:
        told = self._collate([{"input_ids": row} for row in rows]).to(self.device)
        if not (told["labels"] >= 0).any():
            return float("nan")
        # Half precision pays on a GPU only.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self._loss(told)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        return loss.item()

    def _loss(self, told: Any) -> Tensor:
        """Mean over the hidden tokens; they alone are held against the vocabulary, half of all the work."""
        labels = told.pop("labels")
        self._hidden = labels >= 0
        loss: Tensor = self.model(**told, labels=labels[self._hidden][None]).loss
        return loss

    def _only_hidden(self, _encoder: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[self._hidden][None]
        return output

    def _set_rate(self, step: int, num_steps: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * ramp(step, num_steps, warmup_share=self.config.warmup_share)

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.config.seed + epoch)
            yield


def _lengths(token_ids: Sequence[list[int]]) -> NDArray[np.int64]:
    return np.array([len(ids) for ids in token_ids], dtype=np.int64)


def _collator(tokenizer: Any, config: PretrainingConfig) -> Any:
    from transformers import DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(tokenizer, mlm_probability=config.mask_share)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Its report of a head that is missing, or one too many, says what is meant to be so."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _loaded(backbone: Backbone, config: PretrainingConfig) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    folder = resolve_backbone(backbone.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        # A fresh head draws from the global generator.
        with _quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BackboneUnavailableError(
            f"backbone {backbone.name!r}: cannot be read for masked language modelling: {error}; it needs "
            "config.json, model.safetensors and a tokenizer of an encoder that transformers knows"
        ) from error
    if tokenizer.mask_token_id is None:
        raise InvalidInputError(
            f"backbone {backbone.name!r}: its tokenizer has no mask token, so that nothing can be hidden; "
            "choose an encoder that was trained by masked language modelling"
        )
    return tokenizer, model
