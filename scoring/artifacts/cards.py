"""Model cards: what a folder holds and the few lines of plain peft and transformers that open it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoring.artifacts.extractor import ExtractorArtifact
    from scoring.artifacts.scorer import ScorerArtifact

_EXTRACTOR = """\
---
base_model: {backbone}
library_name: {library}
tags:
- scorefold
{tag}---

# Extractor ({kind})

Turns short student answers into features on top of the encoder `{backbone}`.
Rank {rank}, alpha {alpha}, target modules: {targets}.

- backbone revision: `{revision}`
- merged from: {parents}

{usage}"""

_USAGE_PEFT = """\
```python
from peft import PeftModel
from transformers import AutoModel

encoder = PeftModel.from_pretrained(AutoModel.from_pretrained({backbone}), "path/to/this/folder")
```
"""

_USAGE_BARE = "There is no adapter: the features are the encoder's own.\n"

_SCORER = """\
---
base_model: {backbone}
tags:
- scorefold
---

# Scorer of item {item_id}

Traits and number of levels: {traits}. Language: {language}.
Extractor: `{extractor}`. Pooling: {pooling} over at most {max_tokens} tokens.

```python
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({name})
encoder = AutoModel.from_pretrained({name})
{open_adapter}head = load_file("path/to/this/folder/head.safetensors")

batch = tokenizer(
    ["an answer"], truncation=True, max_length={max_tokens}, padding=True, return_tensors="pt"
)
with torch.inference_mode():
    states = encoder.eval()(**batch).last_hidden_state
{pool}
logits = features @ head["weight"].T + head["bias"]  # {layout}
```

Temperatures, cut points and review thresholds stand in `scorefold.json`.
"""

_POOL = {
    "mean": '    mask = batch["attention_mask"].unsqueeze(-1)\n'
    "    features = (states * mask).sum(1) / mask.sum(1)",
    "cls": "    features = states[:, 0]",
}


def extractor_card(artifact: ExtractorArtifact) -> str:
    """README.md of an extractor's folder."""
    adapted = bool(artifact.tensors)
    return _EXTRACTOR.format(
        backbone=artifact.backbone,
        library="peft" if adapted else "transformers",
        tag="- lora\n" if adapted else "",
        kind=artifact.kind,
        rank=artifact.lora.rank,
        alpha=artifact.lora.alpha,
        targets=", ".join(sorted(artifact.lora.target_modules)) or "none",
        revision=artifact.backbone_revision,
        parents=", ".join(f"`{key}`" for key in artifact.parents) or "none",
        usage=_USAGE_PEFT.format(backbone=json.dumps(artifact.backbone)) if adapted else _USAGE_BARE,
    )


def scorer_card(artifact: ScorerArtifact, *, adapted: bool) -> str:
    """README.md of a scorer's folder; `adapted` says whether its extractor holds LoRA weights."""
    item = artifact.item
    open_adapter = (
        f'encoder = PeftModel.from_pretrained(encoder, "path/to/extractors/{artifact.extractor}")\n'
    )
    return _SCORER.format(
        backbone=artifact.backbone,
        name=json.dumps(artifact.backbone),
        item_id=item.item_id,
        traits=", ".join(f"{trait.name} ({trait.num_levels})" for trait in item.traits),
        language=item.language,
        extractor=artifact.extractor,
        pooling=artifact.pooling,
        max_tokens=artifact.max_tokens,
        open_adapter=open_adapter if adapted else "",
        pool=_POOL[artifact.pooling],
        layout=" | ".join(f"{trait.name}: {trait.num_levels}" for trait in item.traits),
    )
