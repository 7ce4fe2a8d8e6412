import numpy as np
import pytest

from scoring.artifacts import ArtifactStore
from scoring.backbone import Backbone
from scoring.config import EngineConfig
from scoring.engines.torch import TorchEngine
from scoring.types import Requests
from tests.unit.tiny_encoders import peft_features, write_adapter, write_bare, write_scorer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

TEXTS = (
    "The ice melts because salt lowers the freezing point of water.",
    "i dont know",
    "Weil die Sonne das Eis erwärmt.",
    "there is a gap in the circuit so no current flows from the positive to the negative terminal",
    "It gets warm.",
)


def test_a_real_encoder_with_several_adapters_gives_what_peft_gives(tmp_path):
    backbone, store = Backbone.load("minilm"), ArtifactStore(tmp_path)
    extractors = [
        write_adapter(store, backbone, seed=1, rank=8, strength=1.0),
        write_adapter(store, backbone, seed=2, rank=4, targets=("key", "output.dense"), strength=1.0),
        write_bare(store, backbone),
    ]
    keys = [
        write_scorer(store, backbone, extractor, name=f"item{index}", levels=(index + 2,))
        for index, extractor in enumerate(extractors)
    ]
    engine = TorchEngine(backbone, store, EngineConfig())
    for key in keys:
        engine.load(key)
    asked = [(index, text) for text in TEXTS for index in range(3)]
    requests = engine.prepare(Requests([keys[index] for index, _ in asked], [text for _, text in asked]))
    logits = engine._logits([engine._roster[key] for key in requests.scorers], requests.token_ids)
    for index, (extractor, key) in enumerate(zip(extractors, keys, strict=True)):
        artifact = store.read_scorer(key)
        features = peft_features(store, backbone, extractor, TEXTS, "mean", 32)
        expected = features @ artifact.head_weight.T + artifact.head_bias
        np.testing.assert_allclose(logits[index::3, : index + 2], expected, atol=1e-4, rtol=0)
