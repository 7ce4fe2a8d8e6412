"""The torch engine: CPU and CUDA, a fast forward for the BERT family, transformers' own for the rest."""

from scoring.engines.torch.engine import TorchEngine, pick_device, use_threads

__all__ = ["TorchEngine", "pick_device", "use_threads"]
