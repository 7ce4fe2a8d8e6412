"""The encoder's matrix products as nodes of a graph, in fp32 and in int8 per row.

The int8 nodes compute what `scoring.engines.torch.linear.Int8Linear` does, from the same integers, so that a
finding about one holds for the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from scoring.engines.torch.linear import quantise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from scoring.engines.onnx.graph import Graph
    from scoring.engines.torch.linear import InputRange

#: From a site's name, the name of its input, its weight [out, in] and bias [out] to the name of W x, up to
#: what is left to add: the bias, and whatever the arithmetic can leave to who adds it.
MakeProduct = Callable[["Graph", str, str, "Tensor", "Tensor"], tuple[str, "Tensor"]]


def dense(graph: Graph, _site: str, x: str, weight: Tensor, bias: Tensor) -> tuple[str, Tensor]:
    """W x in fp32."""
    return graph.add("MatMul", x, graph.weight(weight.t())), bias


def quantised(ranges: Mapping[str, InputRange]) -> MakeProduct:
    """W x in int8, given where each site's inputs lie."""

    def product(graph: Graph, site: str, x: str, weight: Tensor, bias: Tensor) -> tuple[str, Tensor]:
        found = quantise(weight, ranges[site])
        constant = graph.constant
        y = graph.add("Mul", x, graph.weight(found.unsmooth))
        y = graph.add("Add", y, graph.weight(found.lift))
        swings = graph.add("Abs", y) if found.zero_point else y
        furthest = graph.add("ReduceMax", swings, constant(np.array([-1], dtype=np.int64)), keepdims=1)
        furthest = graph.add("Max", furthest, constant(np.float32(1e-9)))
        step = graph.add("Mul", furthest, constant(np.float32(1 / found.num_steps)))
        shifted = graph.add("Add", graph.add("Div", y, step), constant(np.float32(found.zero_point + 0.5)))
        unsigned = graph.add("Cast", shifted, to=2)  # TensorProto.UINT8; truncates
        out = graph.fused(
            "MatMulIntegerToFloat",
            unsigned,
            graph.weight(found.integers.t()),
            constant(np.float32(1)),
            graph.weight(found.scale),
            constant(np.uint8(found.zero_point)),
        )
        return graph.add("Mul", out, step), bias - found.shift

    return product
