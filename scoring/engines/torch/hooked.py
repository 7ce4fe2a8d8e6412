"""Any other encoder: transformers' own forward, with the bank's LoRA added by hooks on its linear layers.

Slower than the fast forward (padding, a mask, gathered matrices), and right for every architecture whose
linear layers see rows as the first dimension; knows neither items nor heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from scoring.engines.torch.layouts import PaddedLayout

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank
    from scoring.engines.rows import Rows


class HookedEncoder:
    """Pooled features by the encoder's own forward, with each row's own adapter."""

    def __init__(self, backbone: Backbone, bank: AdapterBank) -> None:
        self._backbone = backbone
        self._bank = bank

    def features(self, rows: Rows) -> Tensor:
        """Pooled features [num_rows, hidden]."""
        backbone = self._backbone
        layout = PaddedLayout(rows, self._bank, backbone.device, pad_id=backbone.pad_id)
        # Only for the length of this call: the backbone may serve others, and must stay as it was.
        adapted = self._bank.adapted()
        handles = [
            module.register_forward_hook(_adapting(path, layout))
            for path, module in backbone.model.named_modules()
            if isinstance(module, nn.Linear) and path in adapted
        ]
        try:
            output = backbone.model(input_ids=layout.token_ids, attention_mask=layout.mask.long())
        finally:
            for handle in handles:
                handle.remove()
        return layout.pool(output.last_hidden_state)


def _adapting(path: str, layout: PaddedLayout) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        layout.adapt(path, inputs[0], output)
        return output

    return hook
