"""The ONNX Runtime engine: a graph written by hand for the BERT family, CPU or CUDA."""

from scoring.engines.onnx.engine import OnnxEngine

__all__ = ["OnnxEngine"]
