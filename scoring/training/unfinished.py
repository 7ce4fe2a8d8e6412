"""A pre-training that is under way, on disk: what a rerun after a kill needs, as safetensors and JSON.

One folder an epoch, shown under its name only once it is whole; the newest is kept.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scoring.errors import CorruptArtifactError, InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from scoring.training.guessing import Guesser

MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pre-training has come.

    Attributes:
        identity: what it was given: backbone, answers, recipe
        loss_before: held-out loss before the first step
        losses: (mean training loss, held-out loss) of each epoch so far
    """

    identity: dict[str, Any]
    loss_before: float
    losses: tuple[tuple[float, float], ...] = ()


class Unfinished:
    """The folder in which a pre-training stands while it is under way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resume(self, guesser: Guesser, identity: dict[str, Any]) -> Progress | None:
        """Put model and optimizer back to the end of the newest whole epoch; none where there is no such.

        Raises:
            InvalidInputError: what stands there is another pre-training.
            CorruptArtifactError: it cannot be read.
        """
        newest = max(self.folder.glob("epoch-*[0-9]"), key=_number, default=None)
        if newest is None:
            return None
        try:
            told = json.loads((newest / PROGRESS_FILE).read_text(encoding="utf-8"))
            if told["identity"] != identity:
                raise InvalidInputError(
                    f"{self.folder}: holds an unfinished pre-training with other answers, recipe or backbone;"
                    " run that one to its end, delete the folder, or name another --out"
                )
            _load(guesser, newest)
            losses = tuple((float(one), float(other)) for one, other in told["losses"])
            return Progress(identity, float(told["loss_before"]), losses)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CorruptArtifactError(f"{newest}: cannot be read ({error}); delete {self.folder}") from error

    def keep(self, guesser: Guesser, progress: Progress) -> None:
        """Write the state after an epoch, then let go of the one before."""
        epoch = self.folder / f"epoch-{len(progress.losses)}"
        unnamed = self.folder / "writing"
        shutil.rmtree(unnamed, ignore_errors=True)
        unnamed.mkdir(parents=True)
        save_file(_model_tensors(guesser), unnamed / MODEL_FILE)
        save_file(_optimizer_tensors(guesser), unnamed / OPTIMIZER_FILE)
        (unnamed / PROGRESS_FILE).write_text(json.dumps(asdict(progress)), encoding="utf-8")
        unnamed.rename(epoch)
        for older in self.folder.glob("epoch-*[0-9]"):
            if older != epoch:
                shutil.rmtree(older)

    def remove(self) -> None:
        """Nothing is left to resume."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _model_tensors(guesser: Guesser) -> dict[str, torch.Tensor]:
    # Parameters, not the state dict: tied weights are one tensor, and safetensors wants each once.
    return {name: weight.detach().contiguous() for name, weight in guesser.model.named_parameters()}


def _optimizer_tensors(guesser: Guesser) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": value.contiguous()
        for index, moments in guesser.optimizer.state_dict()["state"].items()
        for name, value in moments.items()
    }


@torch.no_grad()
def _load(guesser: Guesser, folder: Path) -> None:
    device = str(guesser.device)
    saved = load_file(folder / MODEL_FILE, device)
    for name, weight in guesser.model.named_parameters():
        weight.copy_(saved[name])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(folder / OPTIMIZER_FILE, device).items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = value
    guesser.optimizer.load_state_dict(guesser.optimizer.state_dict() | {"state": moments})
