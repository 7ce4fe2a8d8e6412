"""The BERT family's forward as an ONNX graph, written by hand around ONNX Runtime's fused operators.

Exporters and optimisers lose fused attention as soon as LoRA branches stand beside the projections. Here the
adapters are inputs: stacked matrices and a slot for each row, gathered inside. Knows weights and shapes;
knows neither sessions nor items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from scoring.engines.torch.anatomy import layer_paths
from scoring.engines.torch.bert import position_table
from scoring.engines.torch.linear import stacked

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray
    from onnx import ModelProto
    from torch import Tensor, nn

    from scoring.backbone import Backbone
    from scoring.engines.onnx.linear import MakeProduct
    from scoring.engines.torch.anatomy import LayerPaths

_OPSET = 18
_IR_VERSION = 9
_MICROSOFT = "com.microsoft"


class Graph:
    """Nodes and weights under construction; every method returns the name of a new value."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._num_values = 0

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One node with one output."""
        return self.add_many(1, operator, *inputs, domain=domain, **attributes)[0]

    def add_many(
        self, count: int, operator: str, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One node with several outputs."""
        outputs = [self._name() for _ in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs

    def fused(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """One of ONNX Runtime's own operators."""
        return self.add(operator, *inputs, domain=_MICROSOFT, **attributes)

    def weight(self, value: Tensor) -> str:
        """A constant of the model."""
        return self.constant(value.detach().cpu().numpy())

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """A constant of the model that is no weight; a number has no dimension."""
        name = self._name()
        self._weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def input(self, name: str, kind: int, shape: list[str | int]) -> str:
        """A value fed at each run."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def model(self, output: str, shape: list[str | int]) -> ModelProto:
        """The finished model with this one output."""
        told = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, "encoder", self._inputs, [told], self._weights)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _name(self) -> str:
        self._num_values += 1
        return f"v{self._num_values}"


class EncoderGraph:
    """Builds the forward of one backbone with adapters on some sites.

    Inputs: `token_ids` [rows, tokens], `positions` [tokens]; with adapters `slots` [rows], and for each
    adapted site `A.<site>` [slots, rank, in] and `B.<site>` [slots, rank, out]; for MPNet `bias` [1, heads,
    tokens, tokens]. Output: token states [rows, tokens, hidden]. All rows of a batch have the same length.
    """

    def __init__(self, backbone: Backbone, sites: Collection[str], make_product: MakeProduct) -> None:
        self._backbone = backbone
        self._model: Any = backbone.model
        self._sites = sites
        self._make_product = make_product
        self._graph = Graph()
        self._slots = self._bias = ""

    def build(self) -> ModelProto:
        """The whole model."""
        graph = self._graph
        if self._sites:
            self._slots = graph.input("slots", TensorProto.INT64, ["rows"])
        if self._backbone.family == "mpnet":
            self._bias = graph.input("bias", TensorProto.FLOAT, [1, "heads", "tokens", "tokens"])
        x = self._embed()
        for paths in layer_paths(self._backbone):
            x = self._layer(x, paths)
        return graph.model(x, ["rows", "tokens", self._backbone.hidden_size])

    def _embed(self) -> str:
        graph, embeddings = self._graph, self._model.embeddings
        ids = graph.input("token_ids", TensorProto.INT64, ["rows", "tokens"])
        positions = graph.input("positions", TensorProto.INT64, ["tokens"])
        words = graph.add("Gather", graph.weight(embeddings.word_embeddings.weight), ids)
        places = graph.add("Gather", graph.weight(position_table(self._backbone)), positions)
        norm = embeddings.LayerNorm
        return graph.add(
            "LayerNormalization",
            graph.add("Add", words, places),
            graph.weight(norm.weight),
            graph.weight(norm.bias),
            axis=-1,
            epsilon=float(norm.eps),
        )

    def _layer(self, x: str, paths: LayerPaths) -> str:
        graph = self._graph
        qkv, qkv_bias = self._linear(x, paths.qkv)
        query, key, value = graph.add_many(3, "Split", qkv, axis=-1, num_outputs=3)
        # All rows of a batch have one length, so that there is nothing to mask.
        attention = [query, key, value, graph.weight(qkv_bias), "", self._bias]
        context = graph.fused(
            "MultiHeadAttention", *attention, num_heads=int(self._backbone.config.num_attention_heads)
        )
        mixed, mix_bias = self._linear(context, (paths.mix,))
        x = self._norm(mixed, x, paths.mix_norm, mix_bias)
        wide, wide_bias = self._linear(x, (paths.widen,))
        wide = graph.fused("BiasGelu", wide, graph.weight(wide_bias))
        narrow, narrow_bias = self._linear(wide, (paths.narrow,))
        return self._norm(narrow, x, paths.out_norm, narrow_bias)

    def _linear(self, x: str, paths: tuple[str, ...]) -> tuple[str, Tensor]:
        """W x plus the rows' own B A x; the bias is left to the fused operator that follows."""
        graph, site = self._graph, paths[0]
        layers: list[nn.Linear] = [self._model.get_submodule(path) for path in paths]
        weight, bias = stacked(layers)
        out, bias = self._make_product(graph, site, x, weight, bias)
        if site in self._sites:
            a = graph.input(f"A.{site}", TensorProto.FLOAT, ["slots", f"rank.{site}", weight.shape[1]])
            b = graph.input(f"B.{site}", TensorProto.FLOAT, ["slots", f"rank.{site}", weight.shape[0]])
            own_a, own_b = (graph.add("Gather", stack, self._slots) for stack in (a, b))
            inner = graph.fused("FusedMatMul", x, own_a, transB=1)
            out = graph.add("Add", out, graph.add("MatMul", inner, own_b))
        return out, bias

    def _norm(self, x: str, skip: str, path: str, bias: Tensor) -> str:
        norm: Any = self._model.get_submodule(path)
        graph = self._graph
        parts = [graph.weight(part) for part in (norm.weight, norm.bias, bias)]
        return graph.fused("SkipLayerNormalization", x, skip, *parts, epsilon=float(norm.eps))
