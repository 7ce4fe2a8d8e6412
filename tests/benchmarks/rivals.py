"""How others serve many adapters, run as fairly as we can: PEFT in four ways, and a full model per item.

All take the same answers and give features [num_answers, hidden]; heads are applied by the caller. They live
in a process of their own, on one thread and otherwise as it comes, without what our engine sets for its own.
"""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from transformers import AutoModel

from scoring.backbone import Backbone, resolve_backbone

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MAX_TOKENS = 128
BATCH_TOKENS = 1024
BATCH_SIZE = 32


def sorted_batches(rows: Sequence[list[int]], indices: Sequence[int]) -> Iterator[list[int]]:
    """Indices sorted by length, cut by the token budget that our engine is given too."""
    batch: list[int] = []
    for index in sorted(indices, key=lambda index: len(rows[index])):
        if batch and (len(batch) + 1) * len(rows[index]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def arrival_batches(num_answers: int) -> Iterator[list[int]]:
    """Indices as they come, in batches of 32."""
    for start in range(0, num_answers, BATCH_SIZE):
        yield list(range(start, min(start + BATCH_SIZE, num_answers)))


def write_full_models(backbone: Backbone, adapters: Sequence[Path], folder: Path) -> list[Path]:
    """A folder with a full model for each of PEFT's adapters."""
    paths = [folder / f"full{number}" for number in range(len(adapters))]
    for path, adapter in zip(paths, adapters, strict=True):
        plain = AutoModel.from_pretrained(resolve_backbone(backbone.name))
        PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(path)
    return paths


class Rivals:
    """PEFT's model with all adapters loaded, and a full model per item on disk."""

    def __init__(self, backbone: Backbone, adapters: Sequence[Path], models: Sequence[Path] = ()) -> None:
        """Load the adapters.

        Args:
            backbone: the shared encoder
            adapters: PEFT's folder of each adapter
            models: the full models' folders, for those who ask for them
        """
        self._backbone = backbone
        self._hidden = backbone.hidden_size
        base = AutoModel.from_pretrained(resolve_backbone(backbone.name))
        self._model: Any = PeftModel.from_pretrained(base, adapters[0], adapter_name="a0")
        for number, path in enumerate(adapters[1:], 1):
            self._model.load_adapter(path, adapter_name=f"a{number}")
        self._model.eval()
        self._full = list(models)

    def mixed(self, texts: Sequence[str], owners: Sequence[int], *, in_arrival_order: bool) -> torch.Tensor:
        """Any adapters in one batch, by `adapter_names=`."""
        rows = self._backbone.encode(texts, MAX_TOKENS)
        batches = arrival_batches(len(rows)) if in_arrival_order else sorted_batches(rows, range(len(rows)))
        out = torch.empty(len(rows), self._hidden)
        for batch in batches:
            names = [f"a{owners[index]}" for index in batch]
            out[batch] = self._features(self._model, [rows[index] for index in batch], adapter_names=names)
        return out

    def grouped(self, texts: Sequence[str], owners: Sequence[int]) -> torch.Tensor:
        """One adapter after the other, each one's answers sorted by length."""
        rows = self._backbone.encode(texts, MAX_TOKENS)
        out = torch.empty(len(rows), self._hidden)
        order = sorted(range(len(rows)), key=lambda index: owners[index])
        for owner, indices in groupby(order, key=lambda index: owners[index]):
            self._model.set_adapter(f"a{owner}")
            for batch in sorted_batches(rows, list(indices)):
                out[batch] = self._features(self._model, [rows[index] for index in batch])
        return out

    def switching(self, texts: Sequence[str], owners: Sequence[int]) -> torch.Tensor:
        """Answer by answer, `set_adapter` before each."""
        out = torch.empty(len(texts), self._hidden)
        for index, ids in enumerate(self._backbone.encode(texts, MAX_TOKENS)):
            self._model.set_adapter(f"a{owners[index]}")
            out[index] = self._features(self._model, [ids])[0]
        return out

    def full_models(self, texts: Sequence[str], owners: Sequence[int]) -> torch.Tensor:
        """A full model per item, one in memory, loaded from disk when the next answer is another item's."""
        out = torch.empty(len(texts), self._hidden)
        model, held = None, None
        for index, ids in enumerate(self._backbone.encode(texts, MAX_TOKENS)):
            if owners[index] != held:
                model, held = AutoModel.from_pretrained(self._full[owners[index]]).eval(), owners[index]
            out[index] = self._features(model, [ids])[0]
        return out

    @torch.inference_mode()
    def _features(self, model: Any, rows: Sequence[list[int]], **names: Any) -> torch.Tensor:
        width = max(map(len, rows))
        ids = torch.tensor([row + [self._backbone.pad_id] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        states = model(input_ids=ids, attention_mask=mask, **names).last_hidden_state
        return (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class RivalProcess:
    """A process that holds `Rivals`, asked by the names of their methods."""

    def __init__(self, backbone: str, adapters: Sequence[Path], models: Sequence[Path]) -> None:
        self._pool = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_open, initargs=(backbone, adapters, models)
        )

    def run(
        self, way: str, texts: Sequence[str], owners: Sequence[int], **options: Any
    ) -> tuple[float, torch.Tensor]:
        """Let them score: the CPU seconds that it took them, and the features [num_answers, hidden]."""
        seconds, features = self._pool.submit(_run, way, texts, owners, options).result()
        return seconds, torch.from_numpy(features)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


_rivals: Rivals | None = None


def _open(backbone: str, adapters: Sequence[Path], models: Sequence[Path]) -> None:
    global _rivals  # noqa: PLW0603 - a process holds one, from its start
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    _rivals = Rivals(Backbone.load(backbone), adapters, models)


def _run(
    way: str, texts: Sequence[str], owners: Sequence[int], options: dict[str, Any]
) -> tuple[float, NDArray[np.float32]]:
    started = time.process_time()
    features = getattr(_rivals, way)(texts, owners, **options)
    return time.process_time() - started, features.numpy()
