"""Runs the encoder's graph in ONNX Runtime: rows of one length in, pooled features out.

A session is made for the sites that adapters touch and made anew when another site comes in. Knows the bank;
knows neither heads nor texts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch

from scoring.engines.onnx.graph import EncoderGraph
from scoring.engines.onnx.linear import dense, quantised
from scoring.engines.torch.bert import relative_bias
from scoring.engines.torch.kernels import int8_works
from scoring.engines.torch.smoothing import input_ranges
from scoring.errors import DeviceOutOfMemoryError, EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray
    from torch import Tensor

    from scoring.backbone import Backbone
    from scoring.bank import AdapterBank
    from scoring.config import EngineConfig
    from scoring.engines.rows import Rows

logger = logging.getLogger(__name__)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxEncoder:
    """Pooled features by ONNX Runtime, in fp32 and on a CPU in int8, each built when first asked for."""

    def __init__(self, backbone: Backbone, bank: AdapterBank, config: EngineConfig, *, device: str) -> None:
        """Prepare; sessions are made later.

        Args:
            backbone: an encoder for which `anatomy.is_bert_like` holds, on the CPU
            bank: adapters, on the CPU
            config: threads
            device: "cpu" or "cuda", where sessions run
        """
        self._backbone = backbone
        self._bank = bank
        self._num_threads = config.num_threads
        self._device = device
        self._bias = relative_bias(backbone)
        self._sessions: dict[bool, tuple[frozenset[str], onnxruntime.InferenceSession]] = {}

    @property
    def can_int8(self) -> bool:
        """Whether int8 computes right here."""
        return self._device == "cpu" and int8_works()

    def features(self, rows: Rows) -> Tensor:
        """Features of rows of one length and one precision [num_rows, hidden]."""
        session, sites = self._session(is_int8=bool(rows.is_int8.any()))
        feeds = {
            "token_ids": np.array(rows.token_ids, dtype=np.int64),
            "positions": np.arange(rows.lengths[0], dtype=np.int64),
        } | self._adapters(rows, sites)
        if self._bias is not None:
            feeds["bias"] = self._bias(int(rows.lengths[0])).numpy()
        try:
            states = torch.from_numpy(session.run(None, feeds)[0])
        except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
            if "allocate memory" not in str(error):
                raise
            raise DeviceOutOfMemoryError(f"the batch does not fit on the device: {error}") from error
        mean = states.mean(1)
        if not rows.is_cls.any():
            return mean
        return torch.where(torch.from_numpy(rows.is_cls).unsqueeze(1), states[:, 0], mean)

    def _adapters(self, rows: Rows, sites: Collection[str]) -> dict[str, NDArray[Any]]:
        feeds: dict[str, NDArray[Any]] = {"slots": rows.slots.astype(np.int64)} if sites else {}
        for site in sites:
            a, b = self._bank.stacked(site) or self._bank.nothing(site)
            feeds |= {f"A.{site}": a.numpy(), f"B.{site}": b.numpy()}
        return feeds

    def _session(self, *, is_int8: bool) -> tuple[onnxruntime.InferenceSession, frozenset[str]]:
        adapted = self._bank.adapted()
        found = self._sessions.get(is_int8)
        if found is None or not adapted <= found[0]:
            sites = adapted | (found[0] if found else frozenset())
            found = self._sessions[is_int8] = sites, self._make_session(sites, is_int8=is_int8)
        return found[1], found[0]

    def _make_session(self, sites: frozenset[str], *, is_int8: bool) -> onnxruntime.InferenceSession:
        product = quantised(input_ranges(self._backbone)) if is_int8 else dense
        model = EncoderGraph(self._backbone, sites, product).build()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        wanted = _PROVIDERS[self._device]
        if wanted in onnxruntime.get_available_providers():
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[wanted])
            # The list names CUDA also where there is no GPU; what came of it the session alone knows.
            if session.get_providers()[0] == wanted:
                return session
        raise EngineUnavailableError(
            f"engine onnx: ONNX Runtime has no {wanted} here; install onnxruntime-gpu on a machine with a "
            "GPU, or set the device to cpu"
        )
