"""Tensors to safetensors bytes and back, with the checks that every stored tensor must pass.

Knows neither items nor folders; `where` names the file in messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from scoring.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def pack(tensors: Mapping[str, Tensor], *, where: str) -> bytes:
    """Safetensors bytes of fp32 tensors; equal tensors give equal bytes.

    Raises:
        CorruptArtifactError: a tensor is not fp32 or holds NaN or infinity.
    """
    check_finite(tensors, where=where)
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    return save(plain, metadata={"format": "pt"})


def unpack(content: bytes, *, where: str) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        CorruptArtifactError: not a safetensors file (a pickle, a truncated file), not fp32, or not finite.
    """
    try:
        tensors = load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CorruptArtifactError(f"{where}: not a readable safetensors file ({error})") from error
    check_finite(tensors, where=where)
    return tensors


def check_finite(tensors: Mapping[str, Tensor], *, where: str) -> None:
    """Refuse tensors that are not fp32 or hold NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise CorruptArtifactError(f"{where}: tensor {name} is {tensor.dtype}, expected torch.float32")
        if not bool(torch.isfinite(tensor).all()):
            raise CorruptArtifactError(f"{where}: tensor {name} holds NaN or infinity")


def check_names(tensors: Mapping[str, Tensor], expected: set[str], *, where: str) -> None:
    """Refuse missing and unexpected tensors."""
    for word, names in (("lacks", expected - set(tensors)), ("has unexpected", set(tensors) - expected)):
        if names:
            raise CorruptArtifactError(f"{where}: {word} tensors {', '.join(sorted(names))}")
