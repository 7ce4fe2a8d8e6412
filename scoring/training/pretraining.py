"""A backbone that has read the answers: masked language modelling on texts, a new backbone folder at the end.

Texts come in, without items, scores or students; a folder goes out that `Backbone.load` takes by its path.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from scoring.backbone import content_revision
from scoring.errors import InvalidInputError
from scoring.text import duplicate_key, normalise
from scoring.training.guessing import Guesser
from scoring.training.unfinished import Progress, Unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from scoring.backbone import Backbone
    from scoring.config import PretrainingConfig

MIN_TEXTS = 20
LINEAGE_FILE = "pretraining.json"


@dataclass(frozen=True, slots=True)
class PretrainingReport:
    """What a pre-training came to; losses are means over hidden tokens, in nats.

    Attributes:
        name: what to name the new backbone by: its folder
        revision: sha256 of its content
        base: the backbone it started from
        base_revision: sha256 of that one's content
        num_texts: distinct answers that taught
        num_held_out: distinct answers that measured
        losses: (training, held-out) of each epoch
        resumed_after: epochs that an earlier run, which was ended, had done
    """

    name: str
    revision: str
    base: str
    base_revision: str
    num_texts: int
    num_held_out: int
    loss_before: float
    loss_after: float
    losses: tuple[tuple[float, float], ...]
    resumed_after: int
    seed: int
    seconds: float


def pretrain(
    texts: Iterable[str],
    *,
    backbone: Backbone,
    out: Path,
    config: PretrainingConfig,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PretrainingReport:
    """Train an encoder to guess hidden tokens of answers, and write it as a new backbone.

    Latif and Zhai (2025): 15% of the tokens, 10 epochs, batches of 32, Adam, gradients clipped at 1.0,
    warm-up over the first 10% of steps. The rate is ours (they name none). A run that was ended goes on after
    its last whole epoch, and comes to the same weights as one that was not.

    Args:
        texts: answers; equal ones (after normalisation) count once.
        backbone: the encoder to start from; left as it is.
        out: the folder to make; `<out>.unfinished` stands beside it until then.
        config: shares, rates, sizes, seed.
        progress: told (epochs done, epochs in all).

    Raises:
        InvalidInputError: too few texts, a folder that is there already, an unfinished run of another kind.
        BackboneUnavailableError: the encoder cannot be read for masked language modelling.
        CorruptArtifactError: the unfinished run cannot be read.
    """
    started = time.monotonic()
    if out.exists():
        raise InvalidInputError(f"{out}: is there already; name a folder that can be made")
    learned, held_out = _parted(texts, config)
    guesser = Guesser(backbone, config)
    identity = _identity(backbone, learned, held_out, config)
    unfinished = Unfinished(out.with_name(f"{out.name}.unfinished"))
    ids, held_out_ids = guesser.encode(learned), guesser.encode(held_out)
    done = unfinished.resume(guesser, identity)
    resumed_after = len(done.losses) if done else 0
    done = done or Progress(identity, guesser.held_out_loss(held_out_ids))
    progress(resumed_after, config.max_epochs)
    for epoch in range(resumed_after + 1, config.max_epochs + 1):
        loss = guesser.learn(ids, epoch)
        done = replace(done, losses=(*done.losses, (loss, guesser.held_out_loss(held_out_ids))))
        unfinished.keep(guesser, done)
        progress(epoch, config.max_epochs)
    _write(guesser, out, unfinished, done)
    return PretrainingReport(
        name=str(out),
        revision=content_revision(out),
        base=backbone.name,
        base_revision=backbone.revision,
        num_texts=len(learned),
        num_held_out=len(held_out),
        loss_before=done.loss_before,
        loss_after=done.losses[-1][1],
        losses=done.losses,
        resumed_after=resumed_after,
        seed=config.seed,
        seconds=time.monotonic() - started,
    )


def _parted(texts: Iterable[str], config: PretrainingConfig) -> tuple[list[str], list[str]]:
    """Distinct texts that teach and those that measure, by a hash of each: in any order, the same."""
    distinct = {duplicate_key(text): normalise(text) for text in texts if not text.isspace() and text}
    if len(distinct) < MIN_TEXTS:
        raise InvalidInputError(
            f"{len(distinct)} distinct answers; masked language modelling needs at least {MIN_TEXTS} "
            "(some ten thousand to be of use)"
        )
    keys = sorted(distinct)
    num_held_out = max(1, round(config.held_out_share * len(keys)))
    by_hash = sorted(keys, key=lambda key: hashlib.sha256(b"held out" + key).digest())
    held_out = set(by_hash[:num_held_out])
    return (
        [distinct[key] for key in keys if key not in held_out],
        [distinct[key] for key in keys if key in held_out],
    )


def _identity(
    backbone: Backbone, learned: list[str], held_out: list[str], config: PretrainingConfig
) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps([learned, held_out]).encode()).hexdigest()
    return {"backbone_revision": backbone.revision, "texts_sha256": digest, "config": asdict(config)}


def _write(guesser: Guesser, out: Path, unfinished: Unfinished, done: Progress) -> None:
    """The new backbone, shown under its name only once it is whole."""
    unnamed = unfinished.folder / "backbone"
    shutil.rmtree(unnamed, ignore_errors=True)
    unnamed.mkdir(parents=True, exist_ok=True)
    guesser.save(unnamed)
    lineage = json.dumps(asdict(done), indent=2, sort_keys=True)
    (unnamed / LINEAGE_FILE).write_text(f"{lineage}\n", encoding="utf-8")
    unnamed.rename(out)
    unfinished.remove()
