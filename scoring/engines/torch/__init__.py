"""The torch engine: CPU and CUDA, a fast forward for the BERT family, transformers' own for the rest."""

from scoring.engines.torch.engine import TorchEngine, pick_device
from scoring.engines.torch.process import settle_process

__all__ = ["TorchEngine", "pick_device", "settle_process"]
