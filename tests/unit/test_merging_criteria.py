"""The criteria against their definitions, and what they say of items that lack what they need."""

from __future__ import annotations

import numpy as np
import pytest

from scoring.errors import InvalidInputError
from scoring.merging.criteria import (
    CRITERIA,
    ItemProfile,
    gw_criterion,
    linear_cka,
    random_criterion,
    subspace_distance,
)
from scoring.merging.distances import GwSettings, gw_distance
from scoring.merging.relations import relate
from tests.made_clouds import blobs, cloud, moved

HIDDEN, RANK = 12, 3


def profile(seed: int) -> ItemProfile:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return ItemProfile(
        cloud=cloud(f"item{seed}", blobs(seed, num_answers=20, num_dims=HIDDEN)),
        probe=draw(30, HIDDEN),
        adapter={f"layer.{n}.query": (draw(RANK, HIDDEN), draw(HIDDEN, RANK)) for n in range(2)},
        gradient=draw(50),
        prompt=draw(HIDDEN),
    )


def like(other: ItemProfile, **fields: object) -> ItemProfile:
    known = {name: getattr(other, name) for name in ("cloud", "probe", "adapter", "gradient", "prompt")}
    return ItemProfile(**(known | fields))


@pytest.mark.parametrize("name", [name for name in CRITERIA if name != "random"])
def test_an_item_is_like_itself_and_less_like_another(name: str) -> None:
    one, other = profile(1), profile(2)
    assert CRITERIA[name](one, one) == pytest.approx(0, abs=1e-6)
    assert CRITERIA[name](one, other) > 0.01


@pytest.mark.parametrize("name", list(CRITERIA))
def test_every_criterion_is_symmetric(name: str) -> None:
    assert CRITERIA[name](profile(1), profile(2)) == pytest.approx(CRITERIA[name](profile(2), profile(1)))


def test_gw_compares_as_many_answers_as_its_settings_say() -> None:
    one, other = profile(3), profile(4)
    settings = GwSettings(num_answers=10)
    direct = gw_distance(relate(one.cloud.features[:10]), relate(other.cloud.features[:10]), settings)
    assert gw_criterion(settings)(one, other) == direct.distance


def test_cosine_is_of_the_mean_features() -> None:
    one, other = (ItemProfile(cloud=cloud(name, points)) for name, points in (
        ("east", np.array([[2.0, 1.0], [4.0, -1.0]])), ("north-east", np.array([[1.0, 0.0], [1.0, 2.0]]))
    ))  # fmt: skip
    assert CRITERIA["cosine"](one, other) == pytest.approx(1 - np.sqrt(0.5))


def test_cka_sees_neither_rotation_nor_size_but_the_order_of_answers() -> None:
    one = profile(5)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(HIDDEN, HIDDEN)))
    turned = like(one, probe=(3 * one.probe @ rotation + 1).astype(np.float32))
    shuffled = like(one, probe=moved(one.probe, 1).astype(np.float32))
    assert linear_cka(one, turned) == pytest.approx(0, abs=1e-6)
    assert linear_cka(one, shuffled) > 0.3


def test_cka_is_the_normalised_hilbert_schmidt_criterion() -> None:
    one, other = profile(6), profile(7)
    centring = np.eye(30) - 1 / 30
    kernels = [centring @ (p.probe @ p.probe.T) @ centring for p in (one, other)]
    hsic = [
        float((a * b).sum())
        for a, b in ((kernels[0], kernels[1]), (kernels[0], kernels[0]), (kernels[1], kernels[1]))
    ]
    assert linear_cka(one, other) == pytest.approx(1 - hsic[0] / np.sqrt(hsic[1] * hsic[2]), abs=1e-5)


def test_cka_needs_the_same_answers() -> None:
    with pytest.raises(InvalidInputError, match="30 and 10 probe answers"):
        linear_cka(profile(1), like(profile(2), probe=profile(2).probe[:10]))


def test_subspaces_do_not_depend_on_how_an_adapter_is_factored() -> None:
    one = profile(8)
    mix = np.random.default_rng(1).normal(size=(RANK, RANK)).astype(np.float32)
    refactored = {name: (mix @ a, b @ np.linalg.inv(mix)) for name, (a, b) in one.adapter.items()}
    assert subspace_distance(one, like(one, adapter=refactored)) == pytest.approx(0, abs=1e-4)


def test_subspaces_at_right_angles_have_nothing_in_common() -> None:
    axes = np.eye(HIDDEN, dtype=np.float32)
    one, other = (
        like(profile(1), adapter={"query": (axes[places], axes[:, places])}) for places in ([0, 1], [2, 3])
    )
    half = like(profile(1), adapter={"query": (axes[[0, 2]], axes[:, [0, 2]])})
    assert subspace_distance(one, other) == pytest.approx(1)
    assert subspace_distance(one, half) == pytest.approx(0.5)


@pytest.mark.parametrize("names", [("query", "value"), ("query", "query")])
def test_adapters_that_share_no_changed_layer_have_nothing_in_common(names: tuple[str, str]) -> None:
    a, b = profile(1).adapter["layer.0.query"]
    untrained = np.zeros_like(b)
    one, other = (
        like(profile(1), adapter={name: (a, b if k == 0 else untrained)}) for k, name in enumerate(names)
    )
    assert subspace_distance(one, other) == 1.0


def test_chance_depends_on_the_seed_and_the_two_names_alone() -> None:
    one, other, third = profile(1), profile(2), profile(3)
    draws = {(seed, mate.cloud.item_id): random_criterion(seed)(one, mate)
             for seed in range(50) for mate in (other, third)}  # fmt: skip
    assert len(set(draws.values())) == 100
    assert all(0 <= value < 1 for value in draws.values())
    assert 0.35 < np.mean(list(draws.values())) < 0.65
    assert random_criterion(7)(other, ItemProfile(cloud=one.cloud)) == draws[7, "item2"]


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("cka", "probe features"), ("subspace", "adapter"), ("gradient", "gradient"), ("prompt", "prompt")],
)
def test_what_a_criterion_needs_is_named(name: str, lacking: str) -> None:
    bare = ItemProfile(cloud=profile(2).cloud)
    with pytest.raises(InvalidInputError, match=f"item item2: no {lacking} given"):
        CRITERIA[name](profile(1), bare)
