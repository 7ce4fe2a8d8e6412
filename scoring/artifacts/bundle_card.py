"""The card of an exported scorer: what it is, how well it does, and code that runs it without scorefold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from scoring.backbone import PACKAGED

if TYPE_CHECKING:
    from scoring.artifacts.bundle import Bundle

_CARD = """\
---
base_model: {backbone}
library_name: peft
tags:
- scorefold
---

# Scorer of item {item_id}

Scores short answers to one item. Language: {language}. Traits and number of levels: {traits}.
Backbone `{backbone}`, sha256 of its content `{revision}`.
{agreement}
The code below needs nothing but `peft` and `transformers`, and gives for each answer the logits
{layout}, one row an answer.

```python
import unicodedata
from pathlib import Path
{imports}
import torch
{import_peft}from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

folder = Path("path/to/this/folder")
backbone = {open_backbone}

tokenizer = AutoTokenizer.from_pretrained(backbone)
encoder = {open_encoder}
head = load_file(folder / "head.safetensors")


def normalise(text):
    spaced = (" " if character.isspace() else character for character in text)
    kept = (
        character
        for character in spaced
        if character in "\\u200c\\u200d" or unicodedata.category(character) not in {{"Cc", "Cf", "Cs"}}
    )
    return " ".join(unicodedata.normalize("NFKC", "".join(kept)).split())


@torch.inference_mode()
def logits(answer):
    tokens = tokenizer(normalise(answer), truncation=True, max_length={max_length}, return_tensors="pt")
    states = encoder(input_ids=tokens["input_ids"]).last_hidden_state[0]
    return head["weight"] @ {pool} + head["bias"]
```

A trait's probabilities are the softmax of its logits divided by its temperature. Its level is the most
likely one or, where there are cut points, the number of cut points that the expected level reaches.
Temperatures, cut points and review thresholds stand in `scorefold.json` under `scorer.decisions`.
"""

_POOL = {"mean": "states.mean(0)", "cls": "states[0]"}


def bundle_card(bundle: Bundle, *, max_positions: int) -> str:
    """README.md of an exported scorer.

    Args:
        bundle: scorer and extractor.
        max_positions: longest sequence that the backbone takes.
    """
    scorer = bundle.scorer
    adapted = bool(bundle.extractor.tensors)
    open_backbone, imports = _backbone(scorer.backbone)
    encoder = "AutoModel.from_pretrained(backbone)"
    return _CARD.format(
        item_id=scorer.item.item_id,
        language=scorer.item.language,
        traits=", ".join(f"{trait.name} ({trait.num_levels})" for trait in scorer.item.traits),
        backbone=_name(scorer.backbone),
        revision=scorer.backbone_revision,
        agreement=_agreement(bundle),
        layout=" | ".join(f"{trait.name}: {trait.num_levels}" for trait in scorer.item.traits),
        imports=imports,
        import_peft="from peft import PeftModel\n" if adapted else "",
        open_backbone=open_backbone,
        open_encoder=f"PeftModel.from_pretrained({encoder}, folder).eval()"
        if adapted
        else f"{encoder}.eval()",
        max_length=min(scorer.max_tokens, max_positions),
        pool=_POOL[scorer.pooling],
    )


def _backbone(name: str) -> tuple[str, str]:
    """The expression that opens a backbone, and the import it needs."""
    if name in PACKAGED:
        package, inner = PACKAGED[name]
        spec = f'find_spec("{package}").submodule_search_locations[0]'
        return f'f"{{{spec.replace(chr(34), chr(39))}}}/{inner}"', "from importlib.util import find_spec\n"
    if _is_folder(name):
        return '"path/to/the/backbone"', ""
    return json.dumps(name), ""


def _name(name: str) -> str:
    # Where a folder lies on the exporting machine helps nobody.
    return Path(name).name if _is_folder(name) else name


def _is_folder(name: str) -> bool:
    path = Path(name).expanduser()
    return path.is_absolute() or name.startswith(".") or path.is_dir()


def _agreement(bundle: Bundle) -> str:
    told = [one for one in bundle.scorer.lineage.get("metrics", ()) if one.get("qwk") is not None]
    if not told:
        return ""
    lines = (
        f"- {one['trait']}: QWK {one['qwk']:.3f}, accuracy {one['accuracy']:.3f},"
        f" {one['num_answers']} answers"
        for one in told
    )
    return "\n".join(["", "Agreement with people on answers kept out of training:", "", *lines, ""])
