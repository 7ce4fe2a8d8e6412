"""Merging by weights: one is itself, equals stay, exact at the sum of the ranks, TIES as in its paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.artifacts import ArtifactStore, ExtractorArtifact
from scoring.backbone import Backbone
from scoring.config import LoraShape
from scoring.errors import IncompatibleArtifactError, InvalidInputError
from scoring.merging.updates import Update, artifact_of, concatenated, cut, factored, updates_of
from scoring.merging.weights import merge_extractors, merge_states, merge_updates, ties
from tests.unit.tiny_encoders import peft_features, write_adapter, write_encoder

NUM_OUT, NUM_IN = 7, 5
WAYS = ("mean", "ties", "aligned_ties")


def update(seed: int, rank: int = 2, num_out: int = NUM_OUT, num_in: int = NUM_IN) -> Update:
    generator = torch.Generator().manual_seed(seed)
    return Update(
        torch.randn(num_out, rank, generator=generator, dtype=torch.double),
        torch.randn(rank, num_in, generator=generator, dtype=torch.double),
    )


def dense(updates: dict[str, Update]) -> dict[str, torch.Tensor]:
    return {module: one.dense() for module, one in updates.items()}


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rank", [None, 2])
def test_the_merge_of_one_is_itself(way: str, rank: int | None) -> None:
    alone = {"a": update(1), "b": update(2)}
    merged = merge_updates([alone], way=way, rank=rank, density=1.0)
    assert all(close(merged[name].dense(), alone[name].dense()) for name in alone)


@pytest.mark.parametrize("way", WAYS)
def test_two_equals_merge_into_themselves(way: str) -> None:
    alone = {"a": update(1), "b": update(2)}
    merged = merge_updates([alone, alone], way=way, rank=2, density=1.0)
    assert all(close(merged[name].dense(), alone[name].dense()) for name in alone)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_the_mean_is_exact_at_the_sum_of_the_ranks(seed: int, ranks: list[int]) -> None:
    group = [{"a": update(seed + place, rank)} for place, rank in enumerate(ranks)]
    merged = merge_updates(group)
    assert merged["a"].rank == sum(ranks)
    assert close(merged["a"].dense(), torch.stack([one["a"].dense() for one in group]).mean(0))
    weights = [float(place + 1) for place in range(len(ranks))]
    weighted = sum(weight * one["a"].dense() for weight, one in zip(weights, group, strict=True))
    assert close(concatenated([one["a"] for one in group], weights).dense(), weighted)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_a_cut_is_the_best_there_is_at_its_rank(seed: int, full: int, rank: int) -> None:
    whole = update(seed, full)
    shorter = cut(whole, rank)
    assert shorter.rank <= rank
    singular = torch.linalg.svdvals(whole.dense())
    lost = torch.linalg.norm(whole.dense() - shorter.dense())
    assert lost.item() == pytest.approx(torch.linalg.norm(singular[rank:]).item(), abs=1e-9)
    assert close(shorter.dense(), factored(whole.dense(), rank).dense())


def plain_ties(tables: list[np.ndarray], density: float) -> np.ndarray:
    """The paper's three steps entry by entry, in other words."""
    kept = []
    for table in tables:
        order = np.sort(np.abs(table).ravel())[::-1]
        smallest = order[max(1, round(density * table.size)) - 1]
        kept.append(np.where(np.abs(table) >= smallest, table, 0))
    result = np.zeros_like(tables[0])
    for place in np.ndindex(*result.shape):
        values = [table[place] for table in kept]
        sign = np.sign(sum(values))
        agreeing = [value for value in values if value != 0 and np.sign(value) == sign]
        result[place] = np.mean(agreeing) if agreeing else 0
    return result


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0.05, 1.0))
def test_ties_does_what_its_paper_says(seed: int, num: int, density: float) -> None:
    tables = [update(seed + place, 3).dense() for place in range(num)]
    merged = ties([{"w": table} for table in tables], density=density)["w"]
    assert np.allclose(merged.numpy(), plain_ties([table.numpy() for table in tables], density), atol=1e-12)


def test_a_layer_that_one_leaves_alone_counts_as_zero() -> None:
    merged = merge_updates([{"a": update(1), "b": update(2)}, {"a": update(3)}])
    assert close(merged["b"].dense(), update(2).dense() / 2)


def test_a_density_without_meaning_is_refused() -> None:
    for density in (0.0, 1.1):
        with pytest.raises(InvalidInputError, match="density"):
            ties([{"w": torch.ones(2)}], density=density)
    with pytest.raises(InvalidInputError, match="way 'odd'"):
        merge_updates([{"a": update(1)}], way="odd")
    with pytest.raises(InvalidInputError, match="nothing to merge"):
        merge_extractors([], parents=[])


def test_whole_encoders_merge_relative_to_the_pretrained_one() -> None:
    base = {"w": torch.ones(2, 2), "b": torch.zeros(2)}
    tuned = [{name: weight + step for name, weight in base.items()} for step in (0.5, 1.5)]
    mean = merge_states(base, tuned)
    assert all(torch.allclose(mean[name], base[name] + 1.0) for name in base)
    again = merge_states(base, [base, base], way="ties")
    assert all(torch.equal(again[name], base[name]) for name in base)
    with pytest.raises(IncompatibleArtifactError, match="weight b"):
        merge_states(base, [{"w": base["w"]}])


def artifact(revision: str = "1" * 64, rank: int = 2, seed: int = 0) -> ExtractorArtifact:
    one = update(seed, rank)
    return ExtractorArtifact(
        backbone="tiny",
        backbone_revision=revision,
        lora=LoraShape(rank=rank, alpha=4.0 * rank, target_modules=("query",)),
        tensors={
            "base_model.model.x.query.lora_A.weight": one.a.float(),
            "base_model.model.x.query.lora_B.weight": one.b.float(),
        },
    )


def test_an_extractor_in_peft_form_and_back_is_the_same_update() -> None:
    first, second = artifact(rank=2), artifact(rank=3, seed=1)
    merged = merge_extractors([first, second], parents=["p1", "p2"])
    assert (merged.kind, merged.parents, merged.lora.rank) == ("merged", ("p1", "p2"), 5)
    wanted = (updates_of(first)["x.query"].dense() + updates_of(second)["x.query"].dense()) / 2
    assert torch.allclose(updates_of(merged)["x.query"].dense(), wanted, atol=1e-5)
    padded = artifact_of({"x.query": update(1, 1), "y.query": update(2, 3)}, first, parents=[])
    assert {tuple(a.shape) for a, _ in padded.modules().values()} == {(3, NUM_IN)}
    assert torch.allclose(updates_of(padded)["x.query"].dense(), update(1, 1).dense(), atol=1e-6)


def test_extractors_of_two_backbones_are_refused() -> None:
    with pytest.raises(IncompatibleArtifactError, match="cannot be merged"):
        merge_extractors([artifact(), artifact("2" * 64)], parents=["p1", "p2"])


def test_plain_peft_opens_a_merged_extractor(tmp_path) -> None:
    backbone, store = Backbone.load(write_encoder(tmp_path / "encoder")), ArtifactStore(tmp_path / "store")
    keys = [write_adapter(store, backbone, seed=seed) for seed in (1, 2)]
    parts = [store.read_extractor(key) for key in keys]
    alone = store.write_extractor(merge_extractors(parts[:1], parents=keys[:1]))
    texts = ("the ice melts because the sun warms it", "no")
    before, after = (peft_features(store, backbone, key, texts, "mean", 32) for key in (keys[0], alone))
    assert torch.allclose(before, after, atol=1e-5)
    both = store.write_extractor(merge_extractors(parts, parents=keys))
    assert not torch.allclose(before, peft_features(store, backbone, both, texts, "mean", 32), atol=1e-2)
