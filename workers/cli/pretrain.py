"""The verb pretrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scoring.config import PretrainingConfig
from workers.cli.main import app
from workers.cli.printing import print_json, progress_bar, say

_RECIPE = PretrainingConfig()


@app.command()
def pretrain(
    texts: Annotated[
        Path, typer.Argument(help="a file of answers or a folder of them: .txt (one a line), .csv, .jsonl")
    ],
    out: Annotated[Path, typer.Option(help="the folder to make for the new backbone")],
    backbone: Annotated[
        str | None, typer.Option(help="the encoder to start from; by default the one in the settings")
    ] = None,
    column: Annotated[str, typer.Option(help="where tables have their texts")] = "text",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the answers")] = _RECIPE.max_epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="answers in a step")] = _RECIPE.batch_size,
    lr: Annotated[float, typer.Option(min=0.0, help="highest learning rate")] = _RECIPE.lr,
    mask_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="share of the tokens that are hidden")
    ] = _RECIPE.mask_share,
    held_out: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="share of the answers that measure and do not teach")
    ] = _RECIPE.held_out_share,
    max_tokens: Annotated[int, typer.Option(min=8, help="longer answers are cut")] = _RECIPE.max_tokens,
    seed: Annotated[int, typer.Option(min=0, help="seed of all draws")] = _RECIPE.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Train a backbone further on answers, by masked language modelling.

    Needs no scores. Hides tokens and learns to guess them, and writes a new backbone that
    SCOREFOLD_BACKBONE__NAME takes by its folder; items have to be trained again on it. A run that was ended
    goes on after its last whole epoch when the same command is given again.
    """
    from scoring.backbone import Backbone
    from scoring.engines.torch import pick_device, settle_process
    from scoring.training.pretraining import pretrain as pretrain_backbone
    from workers.pretraining import read_texts
    from workers.settings import load_settings

    settings = load_settings()
    config = PretrainingConfig(
        mask_share=mask_share,
        max_epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        max_tokens=max_tokens,
        held_out_share=held_out,
        seed=seed,
    )
    settle_process(threads)
    base = Backbone.load(backbone or settings.backbone.name, device=pick_device(settings.engine.device))
    with progress_bar(unit="epochs") as bar:
        line = bar.add_task("pre-training", total=epochs)
        report = pretrain_backbone(
            read_texts(texts, settings, column=column),
            backbone=base,
            out=out,
            config=config,
            progress=lambda done, _total: bar.update(line, completed=done),
        )
    if as_json:
        print_json(report)
        return
    say(
        f"held-out loss {report.loss_before:.3f} -> {report.loss_after:.3f} nats a hidden token, over "
        f"{report.num_held_out} answers that did not teach ({report.num_texts} did)"
    )
    say(f"{out}: revision {report.revision}")
    say(f"to use it: SCOREFOLD_BACKBONE__NAME={out}, then train every item again")
